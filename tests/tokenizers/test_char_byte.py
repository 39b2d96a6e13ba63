import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers import ByteTokenizer, CharTokenizer, load_tokenizer, make_tokenizer

ENGLISH = "A cat sat on the mat.\r\nIt purred.\n"
CHINESE = "秋天的早晨,湖面很静。\n一只白鹭站在水里,一动不动。"
MIXED = ENGLISH + CHINESE + "\N{CAT FACE}\tnaïve"
ANY_TEXT = st.text(st.characters(codec="utf-8"))  # every code point but the surrogates


@pytest.mark.parametrize("kind", ["char", "byte"])
@given(text=ANY_TEXT)
def test_round_trip_over_all_of_unicode(kind, text):
    tokenizer = make_tokenizer(kind, text + "x")
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert len(ids) == len(text if kind == "char" else text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.unknown_bytes(text) == 0
    assert not np.isin(ids, [tokenizer.end_id, tokenizer.unknown_id or -1]).any()
    assert np.all((ids >= 0) & (ids < tokenizer.vocab_size))


@given(trained=ANY_TEXT, text=ANY_TEXT)
def test_unknown_characters_are_counted_and_shown(trained, text):
    known = set(trained) | {"x"}
    tokenizer = make_tokenizer("char", trained + "x")
    assert tokenizer.decode(tokenizer.encode(text)) == "".join(
        c if c in known else "\ufffd" for c in text
    )
    assert tokenizer.unknown_bytes(text) == sum(len(c.encode()) for c in text if c not in known)


@given(bytes_=st.binary())
def test_byte_ids_that_are_no_utf8_decode_all_the_same(bytes_):
    assert ByteTokenizer().decode(list(bytes_)) == bytes_.decode(errors="replace")


def test_char_ids_by_hand():
    tokenizer = make_tokenizer("char", "banana 水")
    assert tokenizer.characters == " abn水"
    assert (tokenizer.end_id, tokenizer.unknown_id, tokenizer.vocab_size) == (5, 6, 7)
    assert tokenizer.encode("nab水!\U0010ffff").tolist() == [3, 1, 2, 4, 6, 6]
    assert tokenizer.decode([3, 5, 4, 6]) == "n水\ufffd"
    assert tokenizer.unknown_bytes("水火!") == 4


def test_byte_ids_by_hand():
    tokenizer = make_tokenizer("byte", "ignored")
    assert (tokenizer.end_id, tokenizer.unknown_id, tokenizer.vocab_size) == (256, None, 257)
    assert tokenizer.encode("a水").tolist() == [0x61, 0xE6, 0xB0, 0xB4]
    assert tokenizer.decode([0xE6, 0xB0, 256, 0xB4, 0x61]) == "水a"


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_saved_and_loaded_through_json(kind):
    tokenizer = make_tokenizer(kind, MIXED)
    loaded = load_tokenizer(json.loads(json.dumps(tokenizer.to_dict())))
    assert type(loaded) is type(tokenizer)
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.end_id == tokenizer.end_id
    assert np.array_equal(loaded.encode(MIXED), tokenizer.encode(MIXED))


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_a_lone_surrogate_is_refused(kind):
    with pytest.raises(UserError, match=r"lone surrogate, U\+D83D, at character 2"):
        make_tokenizer(kind, "ab").encode("ab\ud83d")


def test_a_lone_surrogate_is_refused_in_training():
    with pytest.raises(UserError, match="lone surrogate"):
        CharTokenizer.train("ab\udc00")


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("abc")])
def test_wrong_ids_and_texts_are_named(tokenizer):
    size = tokenizer.vocab_size
    with pytest.raises(
        ValueError, match=rf"ids must be in \[0, {size}\), got {size} at position 1"
    ):
        tokenizer.decode([0, size])
    with pytest.raises(ValueError, match="got -1 at position 0"):
        tokenizer.decode([-1])
    with pytest.raises(ValueError, match="1-D integers, got float64"):
        tokenizer.decode([0.5])
    with pytest.raises(ValueError, match=r"shape \(1, 1\)"):
        tokenizer.decode([[1]])
    with pytest.raises(ValueError, match="text must be a str, got bytes"):
        tokenizer.encode(b"abc")
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("").shape == (0,)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"kind": "words"}, "unknown tokenizer 'words'; there are: char, byte"),
        ({}, "unknown tokenizer None"),
        ({"kind": ["char"]}, "unknown tokenizer"),
        (["char"], "JSON object, got list"),
        ({"kind": "char"}, "'characters' as a string"),
        ({"kind": "char", "characters": "aba"}, "each character once"),
        ({"kind": "char", "characters": ""}, "at least one character"),
    ],
)
def test_a_broken_description_is_refused(saved, message):
    with pytest.raises(UserError, match=message):
        load_tokenizer(saved)


def test_an_empty_text_trains_no_char_vocabulary():
    with pytest.raises(UserError, match="at least one character"):
        make_tokenizer("char", "")


def test_several_texts_have_one_char_vocabulary():
    assert CharTokenizer.train(iter(["cab", "", "水a"])).characters == "abc水"


def test_tokens_have_names():
    tokenizer = CharTokenizer.train("a 水")
    names = [tokenizer.token_name(i) for i in range(tokenizer.vocab_size)]
    assert names == [" ", "a", "水", "<|endoftext|>", "\ufffd"]
    names = [ByteTokenizer().token_name(i) for i in (10, 97, 127, 128, 0xE6, 256)]
    assert names == ["\n", "a", "\x7f", "<0x80>", "<0xE6>", "<|endoftext|>"]


def test_a_byte_token_spans_its_character():
    ids, spans = ByteTokenizer().encode_with_offsets("a水b")
    assert ids.tolist() == [97, 0xE6, 0xB0, 0xB4, 98]
    assert spans.tolist() == [[0, 1], [1, 2], [1, 2], [1, 2], [2, 3]]
    assert CharTokenizer("ab水").encode_with_offsets("a水!")[1].tolist() == [[0, 1], [1, 2], [2, 3]]

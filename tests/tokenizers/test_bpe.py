import copy
import json
import pickle

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers.base import END
from minillm.tokenizers.bpe import BPETokenizer
from minillm.tokenizers.bpe_simple import decode_simple, encode_simple
from minillm.tokenizers.pretokenize import PATTERNS
from tests.tokenizers.bpe_samples import ANY_TEXT, TEXT, trained

BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=ANY_TEXT)
def test_ids_are_those_of_the_plain_version_and_decode_to_the_text(pattern, text):
    tokenizer = trained(pattern)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    expected = encode_simple(text, tokenizer.merges, pattern=pattern)
    assert [tokenizer.vocabulary[token] for token in expected] == ids.tolist()
    assert tokenizer.decode(ids) == decode_simple(expected) == text
    assert tokenizer.unknown_bytes(text) == 0


def test_training_by_hand():
    tokenizer = BPETokenizer.train(["aab aab", "aab"], vocab_size=260)
    assert tokenizer.merges == [(b"a", b"a"), (b"aa", b"b"), (b" ", b"aab")]
    assert (tokenizer.vocab_size, tokenizer.end_id) == (260, 259)
    assert tokenizer.encode("aab aab a").tolist() == [257, 258, *tokenizer.encode(" a")]
    assert [tokenizer.token_name(i) for i in (256, 257, 258, 259)] == ["aa", "aab", " aab", END]
    assert tokenizer.unknown_id is None


def test_training_takes_texts_once_and_stops_where_pairs_run_out():
    texts = iter(["ab ab", "ab"])
    tokenizer = BPETokenizer.train(texts, vocab_size=10_000, special_tokens=("<a>", "<b>"))
    assert list(texts) == []
    assert tokenizer.vocab_size == 256 + len(tokenizer.merges) + 3
    assert tokenizer.special_tokens == {
        "<a>": tokenizer.vocab_size - 3,
        "<b>": tokenizer.vocab_size - 2,
        END: tokenizer.vocab_size - 1,
    }
    assert tokenizer.end == END
    assert BPETokenizer.train("ab", vocab_size=300, special_tokens=("<pad>", "</s>")).end == "</s>"
    assert len(BPETokenizer.train("ab ab ab cd", vocab_size=300, min_frequency=2).merges) == 2


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(UserError, match=r"vocab_size must be at least 257, .*got 100"):
        BPETokenizer.train("text", vocab_size=100)
    with pytest.raises(UserError, match=r"vocab_size must be at least 259, .*got 258"):
        BPETokenizer.train("text", vocab_size=258, special_tokens=("<a>", "<b>"))
    with pytest.raises(UserError, match="min_frequency must not be negative, got -1"):
        BPETokenizer.train("text", min_frequency=-1)


def test_a_vocabulary_that_no_text_can_fill_takes_no_memory():
    tokenizer = BPETokenizer.train("ab ab", vocab_size=10**15)
    assert tokenizer.merges == BPETokenizer.train("ab ab").merges == [(b"a", b"b"), (b" ", b"ab")]


@pytest.mark.parametrize("prefix", [False, True])
@given(text=ANY_TEXT)
def test_ids_and_offsets_are_hugging_faces(hugging_face, prefix, text):
    ours, theirs = hugging_face[prefix]
    ids, spans = ours.encode_with_offsets(text)
    expected = theirs.encode(text)
    assert ids.tolist() == expected.ids == ours.encode(text).tolist()
    assert spans.tolist() == [list(span) for span in expected.offsets]
    assert spans.dtype == np.int64


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """Our tokenizer and what Hugging Face reads from its file, without and with a first space."""
    pairs = []
    for prefix in (False, True):
        made = trained()
        ours = BPETokenizer(made.vocabulary, made.merges, add_prefix_space=prefix)
        path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
        # The end token is text like any other here: theirs looks for it wherever it is told of it.
        ours.save(path)
        saved = json.loads(path.read_text())
        saved["added_tokens"] = []
        pairs.append((ours, tokenizers.Tokenizer.from_str(json.dumps(saved))))
    return pairs


@pytest.mark.parametrize("pattern", PATTERNS)
@given(parts=st.lists(ANY_TEXT, max_size=6))
def test_a_stream_gives_the_ids_of_the_whole(pattern, parts):
    tokenizer = trained(pattern)
    pieces = [np.empty(0, np.int32), *tokenizer.encode_stream(parts)]
    assert np.concatenate(pieces).tolist() == tokenizer.encode("".join(parts)).tolist()


@given(parts=st.lists(ANY_TEXT, max_size=6))
def test_a_stream_gets_one_first_space(parts):
    made = trained()
    tokenizer = BPETokenizer(made.vocabulary, made.merges, add_prefix_space=True)
    pieces = [np.empty(0, np.int32), *tokenizer.encode_stream(parts)]
    assert np.concatenate(pieces).tolist() == tokenizer.encode("".join(parts)).tolist()


def test_a_long_file_is_streamed(tmp_path):
    text = TEXT * 3000
    (tmp_path / "long.txt").write_bytes(text.encode())
    pieces = list(trained().encode_file(tmp_path / "long.txt"))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), trained().encode(text))


def test_special_tokens_only_where_asked():
    tokenizer = trained()
    text = f"one{END} two"
    assert tokenizer.end_id not in tokenizer.encode(text)
    ids = tokenizer.encode(text, special="all").tolist()
    assert ids == [*tokenizer.encode("one"), tokenizer.end_id, *tokenizer.encode(" two")]
    assert tokenizer.decode(ids) == "one two"
    assert tokenizer.decode(ids, special=True) == text
    assert [row.tolist() for row in tokenizer.encode_batch(["one", ""])] == [
        tokenizer.encode("one").tolist(),
        [],
    ]


@given(ids=st.lists(st.integers(0, 556)))
def test_ids_that_are_no_utf8_decode_as_tiktokens(ids):
    tokenizer = trained()
    encoding = tiktoken.Encoding(
        "ours", pat_str=r"\S+|\s+", mergeable_ranks=tokenizer.vocabulary, special_tokens={}
    )
    ids = [i for i in ids if i < tokenizer.end_id]
    assert tokenizer.decode(np.array(ids, np.int32)) == encoding.decode(ids)


def test_names_and_ids_of_tokens():
    tokenizer = trained()
    assert tokenizer.token_name(tokenizer.id_of(b"\xe6")) == "<0xE6>"
    assert tokenizer.token_name(tokenizer.id_of(" heron")) == " heron"
    assert tokenizer.token_name(tokenizer.end_id) == END
    assert tokenizer.id_of(END) == tokenizer.end_id
    assert tokenizer.id_of("no such token") is None
    with pytest.raises(ValueError, match=rf"in \[0, {tokenizer.vocab_size}\), got -1"):
        tokenizer.token_name(-1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_to_dict_and_back_through_json(pattern):
    tokenizer = trained(pattern)
    saved = json.loads(json.dumps(tokenizer.to_dict()))
    again = BPETokenizer.from_dict(saved)
    assert again.to_dict() == tokenizer.to_dict()
    assert np.array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    by_ranks = BPETokenizer(tokenizer.vocabulary, pattern=pattern)
    again = BPETokenizer.from_dict(json.loads(json.dumps(by_ranks.to_dict())))
    assert again.merges is None
    assert np.array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


def test_pickled_and_copied():
    tokenizer = trained()
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert again.to_dict() == tokenizer.to_dict()
        assert np.array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


@pytest.mark.parametrize("repeat", [1, 1000])  # the short way, and the one by arrays
def test_lone_surrogates_and_what_is_no_text_are_refused(repeat):
    text = "heron 白" * repeat
    with pytest.raises(UserError, match=rf"lone surrogate, U\+DC00, at character {len(text)}"):
        trained().encode(text + "\udc00")
    with pytest.raises(ValueError, match="must be a str, got bytes"):
        trained().encode(text.encode())
    with pytest.raises(ValueError, match="must be a str, got list"):
        trained().encode(["a"] * repeat)
    with pytest.raises(UserError, match="lone surrogate"):
        trained().encode_batch(["heron", text + "\udc00"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": {b"a": 0}}, "must have every byte, lacks 0x00"),
        ({"vocabulary": BYTES | {b"ab": 255}}, r"id 255 is of two tokens, b'\\xff' and b'ab'"),
        ({"vocabulary": BYTES | {b"ab": -1}}, "must be in .*got -1"),
        ({"vocabulary": BYTES | {b"ab": "256"}}, "must be in .*got '256'"),
        ({"vocabulary": BYTES | {b"ab": 10**9}}, "too sparse"),
        ({"merges": [(b"a", b"b")]}, "needs b'ab', which the vocabulary lacks"),
        ({"merges": [(b"ab", b"c")]}, "needs b'ab'"),
        ({"pattern": "gpt5"}, "unknown pattern 'gpt5'; there are: gpt2, cl100k"),
        ({"pattern": "cl100k", "add_prefix_space": True}, "goes with the pattern 'gpt2'"),
        ({"end": "<end>"}, "end token '<end>' is none of the special tokens"),
        ({"special_tokens": {END: 3}}, "id 3 is of two tokens"),
    ],
)
def test_what_makes_no_tokenizer_is_named(change, message):
    with pytest.raises(UserError, match=message):
        BPETokenizer(**({"vocabulary": BYTES} | change))


def test_a_vocabulary_without_an_end_gets_one():
    tokenizer = BPETokenizer(BYTES, special_tokens={"<pad>": 300})
    assert (tokenizer.end_id, tokenizer.vocab_size) == (301, 302)
    assert tokenizer.decode([65, 270, 300, 301, 66]) == "AB"  # 270 is no token's id
    assert BPETokenizer(BYTES, special_tokens={"</s>": 256}).end == "</s>"

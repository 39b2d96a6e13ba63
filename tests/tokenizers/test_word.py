import json

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers.word import WordTokenizer

ANY_TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t'’.ab水e\u0301")))


def names(tokenizer, text):
    return [tokenizer.token_name(i) for i in tokenizer.encode(text)]


def test_text_is_cut_into_words_numbers_signs_and_white_space():
    text = "It's  3.14, don’t\n\n  stop: 你好 हिन्दी x_1=y' "
    tokenizer = WordTokenizer.train(text)
    assert names(tokenizer, text) == [
        *("It's", " ", " 3", ".", "14", ",", " don’t", "\n\n ", " stop", ":", " 你", "好"),
        *(" हिन्दी", " x", "_", "1", "=", "y", "'", " "),
    ]
    assert tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=ANY_TEXT)
def test_parts_joined_are_the_text(text):
    tokenizer = WordTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(names(tokenizer, text)) == text


@given(text=ANY_TEXT)
def test_white_space_splits_as_bytes_do(text):
    tokenizer = WordTokenizer.train(text, split="whitespace")
    words = [word.decode() for word in text.encode().split()]
    assert names(tokenizer, text) == [w if w != "<|endoftext|>" else "<unk>" for w in words]
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(words)
    _, spans = tokenizer.encode_with_offsets(text)
    assert [text[a:b] for a, b in spans] == words
    assert not tokenizer.lossless


def test_frequent_words_come_first_and_equal_ones_in_order_of_appearance():
    text = "b a c a b a d c"
    tokenizer = WordTokenizer.train(text, split="whitespace")
    assert tokenizer.words == ["a", "b", "c", "d", "<|endoftext|>", "<unk>"]
    assert (tokenizer.end_id, tokenizer.unknown_id, tokenizer.vocab_size) == (4, 5, 6)
    smaller = WordTokenizer.train(text, split="whitespace", vocab_size=4)
    assert smaller.words == ["a", "b", "<|endoftext|>", "<unk>"]
    rarer = WordTokenizer.train(text, split="whitespace", min_frequency=2)
    assert rarer.words == ["a", "b", "c", "<|endoftext|>", "<unk>"]
    calls = []
    several = WordTokenizer.train(
        iter(["b a c a", "b a d c"]), split="whitespace", progress=lambda *n: calls.append(n)
    )
    assert several.words == tokenizer.words
    assert calls == [(1, None), (2, None)]


def test_unknown_words_are_named_and_counted():
    tokenizer = WordTokenizer.train("the cat sat")
    assert names(tokenizer, "the dög sat") == ["the", "<unk>", " sat"]
    assert tokenizer.decode(tokenizer.encode("the dög sat")) == "the<unk> sat"
    assert tokenizer.unknown_bytes("the dög sat") == len(" dög".encode())
    by_space = WordTokenizer.train("the cat sat", split="whitespace")
    assert by_space.unknown_bytes("the dög sat") == len("dög".encode())
    assert by_space.decode(by_space.encode("the dög  sat")) == "the <unk> sat"


def test_names_of_tokens_in_a_text_are_no_special_tokens():
    tokenizer = WordTokenizer.train("a </s> <unk> b", split="whitespace", end="</s>")
    assert tokenizer.words == ["a", "b", "</s>", "<unk>"]
    unknown = tokenizer.unknown_id
    assert tokenizer.encode("a </s> <unk> b").tolist() == [0, unknown, unknown, 1]
    assert tokenizer.encode("a </s>", special="all").tolist() == [0, tokenizer.end_id]


def test_another_model_s_words_keep_their_ids():
    tokenizer = WordTokenizer.from_words(["<unk>", "<s>", "</s>", "a", "a\xa0b"])
    assert (tokenizer.unknown_id, tokenizer.end_id, tokenizer.vocab_size) == (0, 2, 5)
    assert tokenizer.encode("a  a\xa0b\nc </s>").tolist() == [3, 4, 0, 0]
    loaded = WordTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert loaded.words == tokenizer.words
    assert loaded.end_id == 2
    appended = WordTokenizer.from_words(["a"], end="E", unknown="U")
    assert appended.words == ["a", "E", "U"]


def test_further_special_tokens_come_last():
    tokenizer = WordTokenizer.train("a b", special_tokens=["<|user|>", "<|endoftext|>"])
    assert tokenizer.special_tokens == {"<|endoftext|>": 2, "<|user|>": 4}
    assert tokenizer.encode("<|user|>a b", special="all").tolist() == [4, 0, 1]
    loaded = WordTokenizer.from_dict(tokenizer.to_dict())
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.words == tokenizer.words


@pytest.mark.parametrize("split", ["text", "whitespace"])
def test_long_texts_are_split_in_pieces_that_nobody_notices(split, monkeypatch):
    text = "The cat's  mat.\n\n\tTwo 猫 cats,\n sat  " * 40
    whole = WordTokenizer.train(text, split=split)
    expected = whole.encode_with_offsets(text)
    monkeypatch.setattr("minillm.tokenizers.word.PIECE", 13)
    pieces = WordTokenizer.train(text, split=split)
    assert pieces.words == whole.words
    for ours, theirs in zip(pieces.encode_with_offsets(text), expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert pieces.unknown_bytes(text + "dog") == 3 + (split == "text")
    with pytest.raises(UserError, match=rf"character {len(text)}"):
        pieces.encode(text + "\ud800")


@given(text=ANY_TEXT)
def test_the_pattern_by_its_parts(text):
    """Word by word: what each part may be, in a notation of its own."""
    tokenizer = WordTokenizer.train(text)
    for name in names(tokenizer, text):
        bare = name.removeprefix(" ") if name.strip(" ") else name
        assert (
            name.isspace()
            or regex.fullmatch(r"\s+", name)
            or regex.fullmatch(r"\p{N}+|\p{Han}|[^\s\p{N}\p{L}\p{M}]", bare)
            or regex.fullmatch(r"[\p{L}\p{M}'’]+", bare)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ["a", "a"]}, "each word once, 'a' comes twice"),
        ({"words": "ab"}, "'words' and 'special_tokens' as lists"),
        ({"words": [1]}, "'words' and 'special_tokens' as lists"),
        ({"end": None}, "its 'end' and 'unknown' as strings"),
        ({"split": "lines"}, "split must be 'text' or 'whitespace', got 'lines'"),
        ({"words": ["\ud800"]}, "lone surrogate"),
        ({"unknown": "<|endoftext|>"}, "must differ"),
        ({"unknown": ""}, "must have a name, got ''"),
        ({"end": ""}, "must have a name, got ''"),
        ({"special_tokens": ["<a>", "<a>"]}, "'<a>' comes twice"),
    ],
)
def test_a_damaged_description_is_refused(change, message):
    saved = WordTokenizer.train("a b").to_dict()
    with pytest.raises(UserError, match=message):
        WordTokenizer.from_dict(saved | change)


def test_a_long_word_is_looked_through_once():
    """Cut where it may be: a text of no such place is not gone through again at every chunk."""
    chunks = ["x" * 1000] * 400
    for split in ("text", "whitespace"):
        tokenizer = WordTokenizer.train("x y", split=split)
        looked = 0
        cut = tokenizer._cut

        def counting(text, cut=cut):
            nonlocal looked
            looked += len(text)
            return cut(text)

        tokenizer._cut = counting
        ids = np.concatenate(list(tokenizer.encode_stream([*chunks, " y", " "])))
        assert ids.tolist() == tokenizer.encode("x" * 400_000 + " y ").tolist()
        assert looked < 3 * 402_000


def test_a_vocabulary_of_no_words_is_refused():
    with pytest.raises(UserError, match="vocab_size must be above 2, got 2"):
        WordTokenizer.train("a b", vocab_size=2)
    with pytest.raises(UserError, match="split must be"):
        WordTokenizer.train("a b", split="lines")

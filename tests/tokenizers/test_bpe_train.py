"""Merges are those of Hugging Face's trainer and of the simple version, one by one."""

import json
from collections import Counter
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from minillm.errors import UserError
from minillm.tokenizers import bpe_pairs, bpe_words
from minillm.tokenizers.bpe_simple import BYTE_ORDER, encode_simple, train_simple
from minillm.tokenizers.bpe_train import train_merges
from minillm.tokenizers.bpe_words import count_words
from minillm.tokenizers.pretokenize import PATTERNS, safe_cut, split_simple
from minillm.tokenizers.surface import regroup

REAL = [topics[name] for name in sorted(topics)]
CHINESE = (
    "学而时习之，不亦说乎？今天我们一起学习语言模型：先数一数，再想一想。数数看，一二三四五六七八九十。\n"
    "语言模型预测下一个词；下一个词又成为上文。模型学习，学习模型，学而不思则罔。\u3000\u3000二〇二四年。\n"
) * 3
EMOJI = "👩\u200d👩\u200d👧 👩\u200d👧 👍🏽👍🏿👍 🇫🇷🇩🇪🇫🇷 ☃\ufe0f☃ 😀😀😀 😀😁😂🤣 " * 2
CODE = "def f(x):\n    if x:\n        return x + 1\n    return f(x - 1)\n\n\n" * 4
texts = st.one_of(
    st.text(st.sampled_from("ab"), max_size=60),
    st.text(st.sampled_from("abc  \n'"), max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)


@pytest.fixture
def small(monkeypatch):
    """Sizes at which everything is cut, moved and looked for anew."""
    monkeypatch.setattr(bpe_words, "BATCH", 20)
    monkeypatch.setattr(bpe_words, "LONG", 10)
    monkeypatch.setattr(bpe_pairs, "HOT", 2)


def shown(token):
    """The token as GPT-2's files have it: a character a byte."""
    characters = [chr(byte) if i < 188 else chr(68 + i) for i, byte in enumerate(BYTE_ORDER)]
    return "".join(characters[BYTE_ORDER.index(byte)] for byte in token)


def by_hugging_face(documents, n_merges, pattern="gpt2", min_frequency=0):
    tokenizer = Tokenizer(models.BPE())
    # Its engine reads {1,3}+ as another repetition.
    split = Regex(PATTERNS[pattern].replace("{1,3}+", "{1,3}"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    vocabulary = tokenizer.get_vocab()
    assert [vocabulary[shown(bytes([byte]))] for byte in BYTE_ORDER] == list(range(256))
    names = {i: name for name, i in vocabulary.items()}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [names[i] for i in range(256, len(names))], list(map(tuple, merges))


def check(documents, n_merges, **settings):
    ours = train_merges(documents, n_merges=n_merges, **settings)
    tokens, merges = by_hugging_face(documents, n_merges, **settings)
    assert [(shown(a), shown(b)) for a, b in ours] == merges
    assert [shown(a + b) for a, b in ours] == tokens


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
@pytest.mark.parametrize("text", [CHINESE, EMOJI, CODE, CHINESE + EMOJI + CODE])
def test_merges_are_hugging_faces(text, pattern):
    check([text], 400, pattern=pattern)


@pytest.mark.parametrize("min_frequency", [0, 3])
def test_merges_of_real_text_are_hugging_faces(min_frequency):
    check(REAL, 2000, min_frequency=min_frequency)


def test_alphabet_and_special_tokens_do_not_change_merges():
    """Hugging Face's other ways to begin: the bytes that occur alone, and special tokens."""
    documents = [CODE, CHINESE, EMOJI]
    seen = len(set("".join(documents).encode()))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2 + seen + 200, special_tokens=["<|endoftext|>", "<pad>"], show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    ours = train_merges(documents, n_merges=200)
    assert [[shown(a), shown(b)] for a, b in ours] == merges


def test_merges_end_where_pairs_are_too_rare():
    for least in (0, 1, 2, 5, 20, 10**6):
        check([CODE + CHINESE], 10_000, min_frequency=least)
    assert train_merges(CODE, n_merges=100, min_frequency=10**6) == []
    assert train_merges([], n_merges=5) == train_merges("a b c", n_merges=0) == []
    assert train_merges(["", "x", ""], n_merges=5) == []


@given(st.lists(texts, max_size=4), st.integers(0, 60), st.integers(0, 3))
@settings(max_examples=80)
def test_merges_of_any_text_are_hugging_faces(documents, n_merges, min_frequency):
    check(documents, n_merges, min_frequency=min_frequency)


@given(
    st.lists(texts, max_size=4),
    st.sampled_from(list(PATTERNS)),
    st.integers(0, 3),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([5, 40, 1 << 20]),
)
@settings(max_examples=120)
def test_merges_are_the_simple_ones(documents, pattern, min_frequency, hot, batch):
    settings = {"n_merges": 40, "pattern": pattern, "min_frequency": min_frequency}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_pairs, "HOT", hot)
        patch.setattr(bpe_words, "BATCH", batch)
        assert train_merges(documents, **settings) == train_simple(documents, **settings)


def test_equal_tokens_that_overlap():
    for text in ("a" * 31, "aaa aaaa aaaaa aaaaaa", "abababab babababa abab", "aabaabaab aabb"):
        expected = train_simple(text, n_merges=30)
        assert train_merges(text, n_merges=30) == expected
        check([text], 30)


def test_batches_and_threads_change_nothing(small):
    text = CODE + CHINESE + EMOJI + CODE
    expected = train_simple([text, "", CODE], n_merges=80)
    for threads in (1, 3):
        assert train_merges([text, "", CODE], n_merges=80, threads=threads) == expected


def test_chunks_of_a_stream_are_the_whole():
    text = CODE + CHINESE + EMOJI
    for size in (7, 100):
        chunks = (text[i : i + size] for i in range(0, len(text), size))
        pieces = regroup(chunks, lambda held: safe_cut(held, "gpt2"))
        assert train_merges(pieces, n_merges=150) == train_merges(text, n_merges=150)


@given(st.lists(texts, max_size=5), st.sampled_from(list(PATTERNS)), st.booleans())
@settings(max_examples=100)
def test_words_and_their_counts(documents, pattern, weak):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_words, "BATCH", 30)
        patch.setattr(bpe_words, "LONG", 12)
        if weak:  # all words of a size have one hash
            patch.setattr(bpe_words, "hash_words", lambda words: words.size.astype(np.uint64) << 60)
        words = count_words(documents, pattern)
    data = words.data.tobytes()
    spans = zip(words.start.tolist(), words.size.tolist(), words.count.tolist(), strict=True)
    found = [(data[a : a + size], count) for a, size, count in spans]
    expected = Counter(word.encode() for text in documents for word in split_simple(text, pattern))
    assert len(found) == len(expected)
    assert dict(found) == expected


@pytest.mark.parametrize("weak", [0, (1 << 64) - 1, 0x5555])
def test_words_with_equal_hashes_are_told_apart(monkeypatch, weak):
    """Words of one size, beyond what fits into an integer, that differ in one byte."""
    monkeypatch.setattr(
        bpe_words, "hash_words", lambda words: np.full(len(words.start), weak, np.uint64)
    )
    alike = ["internationally", "internationalty", "Internationally", "internationallyinter"]
    text = " ".join(alike * 3 + alike[:2])
    words = count_words(text, "gpt2")
    data = words.data.tobytes()
    starts, sizes = words.start.tolist(), words.size.tolist()
    found = {
        data[a : a + n]: c for a, n, c in zip(starts, sizes, words.count.tolist(), strict=True)
    }
    assert found == Counter(word.encode() for word in split_simple(text, "gpt2"))


def test_zero_bytes_are_part_of_a_word():
    text = "a \x00 a\x00 \x00\x00 a\x00\x00 longer than eight\x00\x00\x00\x00\x00 eight\x00 eight"
    check([text] * 3, 50)


def test_long_words():
    text = f"{'ab' * 5000} {'ab' * 5000}c {'x' * 300} {'x' * 300} {'x' * 299}y"
    check([text], 60)


def test_encode_simple_undoes_nothing():
    merges = train_simple(CODE, n_merges=40)
    tokens = encode_simple(CODE + CHINESE, merges)
    assert b"".join(tokens).decode() == CODE + CHINESE
    assert b" return" in tokens


def test_progress_is_told(small):
    told = []
    train_merges(
        [CODE, CHINESE], n_merges=150, progress=lambda done, total: told.append((done, total))
    )
    read = [done for done, total in told if total is None]
    assert read == sorted(read)
    assert read[-1] >= len((CODE + CHINESE).encode())
    assert told[-1] == (100, 150)


def test_bad_input():
    with pytest.raises(UserError, match=r"lone surrogate, U\+DC00, at character 1"):
        train_merges(["fine", "a\udc00"], n_merges=3)
    with pytest.raises(ValueError, match="must be a str, got bytes"):
        train_merges([b"a"], n_merges=3)
    with pytest.raises(ValueError, match="pattern must be one of"):
        train_merges("a", n_merges=3, pattern="o200k")
    with pytest.raises(ValueError, match="must not be negative, got -1 and 0"):
        train_merges("a", n_merges=-1)

import time
from itertools import pairwise

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from minillm.tokenizers import bpe_short
from minillm.tokenizers.bpe import BPETokenizer
from minillm.tokenizers.bpe_encode import BLOCK, Encoder
from minillm.tokenizers.bpe_hash import HashTable
from minillm.tokenizers.bpe_merge import Merges
from minillm.tokenizers.bpe_short import ShortTexts
from minillm.tokenizers.bpe_table import PADDING, WordTable, _Growing
from minillm.tokenizers.pretokenize import PATTERNS, split_simple
from tests.tokenizers.bpe_samples import ANY_TEXT, HARD, TELLING_TEXT, TEXT, telling, trained
from tests.tokenizers.threads import wrong_in_threads

# Patterns as tiktoken's engine reads them, which has no end-of-text problem with any of ours.
TIKTOKEN_SAME = ("gpt2", "cl100k")


def tiktoken_of(tokenizer, pattern):
    return tiktoken.Encoding(
        "ours", pat_str=PATTERNS[pattern], mergeable_ranks=tokenizer.vocabulary, special_tokens={}
    )


@pytest.fixture(scope="module", params=TIKTOKEN_SAME)
def sides(request):
    """Our tokenizer, one by ranks, tiktoken's."""
    tokenizer = trained(request.param)
    by_ranks = BPETokenizer(tokenizer.vocabulary, pattern=request.param)
    return tokenizer, by_ranks, tiktoken_of(tokenizer, request.param)


@pytest.fixture(scope="module")
def sides_by_arrays(sides):
    return by_arrays(sides[0]), by_arrays(sides[1]), sides[2]


def by_arrays(tokenizer):
    """The same tokenizer, whose short texts go through arrays too, a few words a block."""
    made = BPETokenizer(tokenizer.vocabulary, tokenizer.merges, pattern=tokenizer.pattern)
    made._encoder.short, made._encoder.block = -1, 16
    return made


@given(text=ANY_TEXT)
def test_short_texts_are_cut_as_by_tiktoken(sides, text):
    ours, by_ranks, encoding = sides
    expected = encoding.encode_ordinary(text)
    assert ours.encode(text).tolist() == expected
    assert by_ranks.encode(text).tolist() == expected


@given(text=ANY_TEXT)
def test_texts_by_arrays_are_cut_as_by_tiktoken(sides_by_arrays, text):
    ours, by_ranks, encoding = sides_by_arrays
    expected = encoding.encode_ordinary(text)
    assert ours.encode(text).tolist() == expected
    assert by_ranks.encode(text).tolist() == expected


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts=st.lists(ANY_TEXT, max_size=6))
def test_a_batch_has_the_ids_of_each(pattern, texts):
    tokenizer = trained(pattern)
    expected = [tokenizer.encode(text).tolist() for text in texts]
    for block in (16, BLOCK):
        tokenizer._encoder.block = block
        assert [ids.tolist() for ids in tokenizer.encode_batch(iter(texts))] == expected


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.one_of(ANY_TEXT, TELLING_TEXT))
@example("'\u017fa")
def test_short_texts_have_the_words_of_the_pattern(pattern, text):
    assert ShortTexts(pattern, None).words(text) == split_simple(text, pattern)


@pytest.mark.parametrize("pattern", TIKTOKEN_SAME)
@given(text=TELLING_TEXT)
@example("'\u017fa")
@example("a\n \n ")
def test_words_end_where_tiktokens_do(pattern, text):
    tokenizer = telling(pattern)
    expected = tiktoken_of(tokenizer, pattern).encode_ordinary(text)
    assert BPETokenizer(tokenizer.vocabulary, pattern=pattern).encode(text).tolist() == expected
    assert by_arrays(tokenizer).encode(text).tolist() == tokenizer.encode(text).tolist()


def test_words_of_any_code_points(sides):
    ours, _, encoding = sides
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    np.random.default_rng(0).shuffle(codes)
    text = "".join(map(chr, codes[:200_000]))
    assert ours.encode(text).tolist() == encoding.encode_ordinary(text)
    some = text[:50_000]
    short = [some[i : i + 100] for i in range(0, len(some), 100)]
    assert [ids.tolist() for ids in ours.encode_batch(short)] == [
        encoding.encode_ordinary(piece) for piece in short
    ]


def test_a_long_text_cold_and_warm(sides):
    ours, by_ranks, encoding = sides
    rng = np.random.default_rng(1)
    pieces = [*TEXT.splitlines(keepends=True), *HARD, *TEXT.split(" ")]
    text = "".join(pieces[i] for i in rng.integers(0, len(pieces), 40_000))
    assert len(text.encode()) > 2 * BLOCK
    expected = encoding.encode_ordinary(text)
    for tokenizer in (ours, ours, by_ranks):
        assert tokenizer.encode(text).tolist() == expected


def test_a_long_text_that_cannot_be_cut_into_blocks(sides):
    ours, _, encoding = sides
    text = "白鹭,飞。" * 12_000
    assert ours.encode(text).tolist() == encoding.encode_ordinary(text)


@pytest.mark.parametrize("times", [30, 127, 128, 255, 256, 3000])
def test_long_words(sides, times):
    ours, by_ranks, encoding = sides
    for word in ["a", "heron", "ab" * 7, "白鹭", "é", "-=", " \n"]:
        text = word * times
        expected = encoding.encode_ordinary(text)
        assert ours.encode(text).tolist() == by_ranks.encode(text).tolist() == expected
        text += " the end" * 1000
        assert ours.encode(text).tolist() == encoding.encode_ordinary(text)


def test_a_word_of_100_000_letters_takes_no_square_time(sides):
    ours = sides[0]
    seconds = []
    for size in (25_000, 100_000):
        start = time.perf_counter()
        ids = ours.encode("a" * size)
        seconds.append(time.perf_counter() - start)
        assert ours.decode(ids) == "a" * size
    assert seconds[1] < 10 * max(seconds[0], 0.05)  # a square would be 16 times, and far above


@pytest.mark.parametrize("mask", [0, 1, 0xFF])
def test_words_of_equal_hashes_are_told_apart(mask):
    merges = _merges_of(trained())
    table = WordTable(
        merges.many, lambda pieces, sizes: _first_pieces(pieces, sizes) & np.uint64(mask)
    )
    words = [b"a heron, long", b"b heron, long", b"a heron, longer still by far", b"123456789"]
    words += [b"short", b"123456789\0", b"123456789\0\0", b"1234567\0", b"1234567", b"12345678"]
    words += [bytes([97 + i]) * (9 + i) for i in range(20)]
    words += [b"!" + word[1:] for word in words if len(word) > 8]  # of equal lengths too,
    words += [word[:-1] + b"!" for word in words if len(word) > 8]  # and equal but for one byte
    words = sorted(set(words))
    for _ in range(2):
        order = np.random.default_rng(0).permutation(np.tile(np.arange(len(words)), 3))
        data, starts, lengths = _flat([words[i] for i in order])
        numbers = table.numbers(data, starts, lengths)
        assert len(set(zip(numbers.tolist(), order.tolist(), strict=True))) == len(words)
        assert len(set(numbers.tolist())) == len(words)
        expected = [i for place in order for i in merges.one(words[place])]
        assert table.tokens(numbers).tolist() == expected


@given(words=st.lists(st.binary(min_size=1, max_size=300), min_size=1))
def test_many_words_merge_as_one_and_as_by_hand(words):
    tokenizer = trained()
    merges = _merges_of(tokenizer)
    ids, counts = merges.many(*_flat(words))
    expected = [merges.one(word) for word in words]
    assert ids.tolist() == [i for row in expected for i in row]
    assert counts.tolist() == [len(row) for row in expected]
    rank = {pair: place for place, pair in enumerate(tokenizer.merges)}
    for word, row in zip(words, expected, strict=True):
        assert [tokenizer.vocabulary[token] for token in _by_hand(word, rank)] == row


@given(data=st.data())
def test_ranks_nobody_learned_are_joined_as_by_tiktoken(data):
    """Tokens in any order, some of which no merge can reach; equal ranks; whole words."""
    tokens = data.draw(st.lists(st.text("ab", min_size=2, max_size=6), unique=True))
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token.encode(): 256 + i for i, token in enumerate(tokens)}
    tokenizer = BPETokenizer(ranks)
    words = data.draw(st.lists(st.text("ab", min_size=1, max_size=12), min_size=1))
    encoding = tiktoken_of(tokenizer, "gpt2")
    for word in words:
        expected = encoding.encode_ordinary(word)
        assert tokenizer.encode(word).tolist() == expected
    merged = tokenizer._encoder._merge(*_flat([word.encode() for word in words]))[0]
    assert merged.tolist() == [i for word in words for i in encoding.encode_ordinary(word)]


@pytest.mark.parametrize("whole", [False, True])
@given(data=st.data())
def test_merges_nobody_learned_are_joined_as_by_hugging_face(whole, data):
    """Merges in an order in which their parts may come after them, or twice."""
    parts = [b"a", b"b", b"ab", b"ba", b"aa", b"abb", b"bab"]
    merges = data.draw(st.lists(st.tuples(st.sampled_from(parts), st.sampled_from(parts))))
    tokens = [*parts, *(left + right for left, right in merges)]
    vocabulary = {bytes([byte]): byte for byte in range(256)}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    ours = BPETokenizer(vocabulary, merges, whole_words=whole)
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {
                (token.decode() if token in tokens else f"byte {i}"): i
                for token, i in vocabulary.items()
            },
            [(left.decode(), right.decode()) for left, right in merges],
            ignore_merges=whole,
        )
    )
    words = data.draw(st.lists(st.text("ab", min_size=1, max_size=12), min_size=1))
    merged = ours._encoder._merge(*_flat([word.encode() for word in words]))[0]
    expected = [theirs.encode(word).ids for word in words]
    assert [ours.encode(word).tolist() for word in words] == expected
    assert merged.tolist() == [i for row in expected for i in row]


def test_the_table_of_words_is_dropped_when_it_is_large():
    merges = _merges_of(trained())
    encoder, text = Encoder(merges, "gpt2", memory=1), TEXT * 30
    first = encoder._words
    expected = encoder.encode(text)
    assert encoder._words is not first
    assert np.array_equal(encoder.encode(text), expected)
    kept = Encoder(merges, "gpt2")
    assert np.array_equal(kept.encode(text), expected)
    assert kept._words.nbytes < 1 << 20


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_leaves_nothing_half_done(monkeypatch, late):
    put, steps = _Growing.put, 0

    def interrupted(array, place, values):
        nonlocal steps
        steps -= 1
        if late or steps:
            put(array, place, values)
        if steps == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Growing, "put", interrupted)
    for step in range(1, 1000):
        tokenizer, text = by_arrays(trained()), TEXT * 2
        tokenizer._encoder.block = 200
        tokenizer.encode(text[:60])
        steps = step
        try:
            tokenizer.encode(text)
        except KeyboardInterrupt:
            pass
        else:
            break  # there are fewer steps
        for piece in (text[40:], text[:100], "another heron, a longer word: interruption", text):
            assert tokenizer.encode(piece).tolist() == trained().encode(piece).tolist()
    assert step > 10


def test_threads_share_a_tokenizer():
    made = trained()
    tokenizer = by_arrays(made)
    words = sorted({*TEXT.split(), *HARD})
    rng = np.random.default_rng(2)
    texts = [" ".join(words[i] for i in rng.integers(0, len(words), 100)) for _ in range(16)]
    expected = [made.encode(text).tolist() for text in texts]
    assert wrong_in_threads(tokenizer, texts, expected, rng) == []


@given(keys=st.lists(st.integers(0, 2**64 - 2), unique=True), seed=st.integers(0, 99))
def test_the_hash_table_is_a_dict(keys, seed):
    rng = np.random.default_rng(seed)
    near = {int(k) for k in rng.integers(0, 50, 60)}  # many that probe past one another
    keys = list(dict.fromkeys([*keys, *near]))
    values = rng.integers(0, 1 << 30, len(keys)).astype(np.int32)
    half = len(keys) // 2
    table = HashTable(np.array(keys[:half], np.uint64), values[:half])
    table.insert(np.array(keys[half:], np.uint64), values[half:])
    expected = dict(zip(keys, values.tolist(), strict=True))
    asked = [*keys, *range(100), 2**63]
    found = table.find(np.array(asked, np.uint64))
    assert found.tolist() == [expected.get(key, -1) for key in asked]


def test_the_hash_table_grows_and_probes():
    table = HashTable()
    rng = np.random.default_rng(3)
    keys = np.unique(rng.integers(0, 1 << 62, 20_000).astype(np.uint64))
    for part in np.array_split(np.arange(len(keys)), 7):
        table.insert(keys[part], part)
    assert np.array_equal(table.find(keys), np.arange(len(keys)))
    assert np.all(table.find(keys + np.uint64(1 << 62)) == -1)


def _flat(words):
    lengths = np.array([len(word) for word in words])
    data = np.frombuffer(b"".join(words) + bytes(PADDING), np.uint8)
    return data, np.cumsum(lengths) - lengths, lengths


def _merges_of(tokenizer) -> Merges:
    return tokenizer._encoder.merges


def _first_pieces(pieces, sizes):
    return pieces[np.cumsum(sizes) - sizes]


def _by_hand(word, rank):
    parts = [bytes([byte]) for byte in word]
    while len(parts) > 1:
        ranks = [rank.get(pair, len(rank)) for pair in pairwise(parts)]
        i = min(range(len(ranks)), key=ranks.__getitem__)
        if ranks[i] == len(rank):
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def test_the_words_of_short_texts_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(bpe_short, "KEPT", 8)
    merges = trained()._encoder.merges
    short, most = ShortTexts("gpt2", merges.one), 0
    kept = short._ids_of.__self__
    for first in range(0, 400, 20):
        text = TEXT[first : first + 20]
        assert short.encode(text).tolist() == trained().encode(text).tolist()
        most = max(most, len(kept))
    assert most == 8
    short.encode("x" * 1000)
    assert "x" * 1000 not in kept

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.models import ngram_counts, ngram_memory
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_counts_simple import count_ngrams_simply
from minillm.models.ngram_memory import available_memory, check_memory

SIZE, END = 6, 3
IDS = st.lists(st.integers(0, SIZE - 1), max_size=90)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        for name in ("keys", "raw", "left", "suffix", "first"):
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype
            assert np.array_equal(x, y), name


@given(ids=IDS, order=st.integers(1, 7), share=st.integers(1, 9), threads=st.integers(1, 3))
def test_equals_counting_with_dictionaries(ids, order, share, threads):
    arguments = {"order": order, "vocab_size": SIZE, "end_id": END}
    expected = count_ngrams_simply(ids, **arguments)
    assert_same(count_ngrams(np.array(ids, int), **arguments), expected)
    with pytest.MonkeyPatch.context() as patch:  # many small shares, on several threads
        patch.setattr(ngram_counts, "SHARE", share)
        assert_same(count_ngrams(np.array(ids, int), threads=threads, **arguments), expected)


def test_a_vocabulary_with_gaps_and_a_text_of_several_shares():
    rng = np.random.default_rng(0)
    size = 100_003
    ids = np.minimum(rng.zipf(1.3, 30_000), 900) * 111
    ids[rng.choice(len(ids), 3000, replace=False)] = size - 2
    arguments = {"order": 4, "vocab_size": size, "end_id": size - 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_counts, "SHARE", 1 << 10)
        found = count_ngrams(ids.astype(np.uint32), threads=2, **arguments)
    assert_same(found, count_ngrams_simply(ids, **arguments))


def test_a_toy_by_hand():
    # the documents "ab" and "b": <end>ab<end> and <end>b<end>
    one, two = count_ngrams(np.array([0, 1, 2, 1, 2]), order=2, vocab_size=3, end_id=2)
    assert one.raw.tolist() == [1, 2, 2]
    assert one.left.tolist() == [1, 2, 1]  # a after <end>; b after <end> and a; <end> after b
    assert two.keys.tolist() == [0 * 3 + 1, 1 * 3 + 2, 2 * 3 + 0, 2 * 3 + 1]  # ab, b., .a, .b
    assert two.raw.tolist() == [1, 2, 1, 1]
    assert two.suffix.tolist() == [1, 2, 0, 1]
    assert one.last == 1  # b, of the words, is the last to appear
    assert two.last is None


@pytest.mark.parametrize(
    ("ids", "last"),
    [
        # x: 0, y: 1, end: 2. KenLM sorts by the last word, then by the one before it, and so on;
        # a sentence's begin comes before all words, which come as they first appear
        ([0, 1, 2, 1, 1, 2], [(1,), (1, 1), (2, 1, 1)]),
        ([0, 1, 2, 1, 2], [(1,), (0, 1), (2, 0, 1)]),
        ([1, 0, 2], [(0,), (1, 0), (2, 1, 0)]),
        ([2, 2], [(2,), (2, 2), None]),
        ([0, 2, 1, 2], [(1,), (2, 1), None]),
    ],
)
def test_which_ngram_kenlm_reads_last(ids, last):
    counts = count_ngrams(np.array(ids), order=4, vocab_size=4, end_id=2)
    assert [named(counts, k, c.last) for k, c in enumerate(counts)] == [*last, None]


def named(counts, k, gram):
    """The tokens of an n-gram of length k + 1."""
    if gram is None:
        return None
    prefix, token = divmod(int(counts[k].keys[gram]), 4)
    return (*(named(counts, k - 1, prefix) if k else ()), token)


def test_progress_tells_of_each_length():
    told = []
    arguments = {"order": 3, "vocab_size": 3, "end_id": 2}
    count_ngrams(np.array([0, 1, 2]), progress=lambda *at: told.append(at), **arguments)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_more_than_fits_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(ngram_memory, "available_memory", lambda: 5000)
    arguments = {"order": 9, "vocab_size": 3, "end_id": 2}
    count_ngrams(np.array([0, 1, 2]), **arguments)
    with pytest.raises(UserError, match=r"n-grams of length 2 may take .* MB .* lower order"):
        count_ngrams(np.array([0, 1, 2] * 20), **arguments)
    with pytest.raises(UserError, match=r"counting 300 tokens may take .* MB"):
        count_ngrams(np.array([0, 1, 2] * 100), **arguments)


def test_more_than_has_places_is_refused():
    with pytest.raises(ValueError, match="268435456 kinds can be counted, got 1 of 268435457"):
        count_ngrams(np.array([0]), order=2, vocab_size=(1 << 28) + 1, end_id=0)


def test_the_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(ngram_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(ngram_memory, "CGROUP", tmp_path)
    assert available_memory() is None
    check_memory(1 << 60, "nobody knows")
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    7 kB\n")
    assert available_memory() == 7 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_memory() == 7 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_memory() == 4000
    with pytest.raises(
        UserError, match=r"it may take 0\.00456 MB of memory, but 0\.004 MB are free"
    ):
        check_memory(4560, "it")
    (tmp_path / "memory.max").write_text("1234501000\n")
    (tmp_path / "meminfo").unlink()
    with pytest.raises(UserError, match=r"it may take 1\.24 GB of memory, but 1\.23 GB are free"):
        check_memory(1_240_000_000, "it")
    (tmp_path / "memory.max").write_text("5000\n")
    with pytest.raises(UserError, match="it may take"):
        check_memory(4001, "it")
    check_memory(4000, "it")

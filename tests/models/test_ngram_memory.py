"""What is foreseen of an n-gram model's memory against what it takes."""

import tracemalloc

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models import ngram_memory
from minillm.models.ngram import NGram
from minillm.models.ngram_table import HashTable
from minillm.tokenizers.word import WordTokenizer

TOKENIZER = WordTokenizer(f"w{i}" for i in range(500))
IDS = np.random.default_rng(0).integers(0, 300, 30_000)
OTHERS = np.random.default_rng(1).integers(0, 300, 30_000)


class Limited:
    """A machine of so many bytes, of which this block may take what is left of them."""

    def __init__(self, monkeypatch, limit=None):
        self.patch, self.limit = monkeypatch, limit

    def __enter__(self):
        tracemalloc.start()
        if self.limit:
            left = lambda: self.limit - tracemalloc.get_traced_memory()[0]  # noqa: E731
            self.patch.setattr(ngram_memory, "available_memory", left)
        return self

    def __exit__(self, *error):
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.patch.undo()


def assert_refused_just_where_it_would_not_fit(work, monkeypatch):
    """Work that takes a peak is refused with less than that, and not with twice that."""
    work()  # what is kept from the first time on is not the work's
    with Limited(monkeypatch) as free:
        work()
    with Limited(monkeypatch, 2 * free.peak) as enough:
        work()
    assert enough.peak < 1.01 * free.peak + 10_000
    for share in (0.999, 0.9, 0.7):
        with (
            pytest.raises(UserError, match=r"may take .* [MG]B of memory, but"),
            Limited(monkeypatch, share * free.peak) as little,
        ):
            work()
        assert little.peak <= little.limit


@pytest.mark.parametrize("order", [3, 10])
@pytest.mark.parametrize(
    "settings",
    [
        {"smoothing": "modified-kneser-ney"},
        {"smoothing": "modified-kneser-ney", "prune": (0, 1)},
        {"smoothing": "katz"},
        {"smoothing": "good-turing"},
        {"smoothing": "stupid-backoff"},
        {"smoothing": "jelinek-mercer"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_training(order, settings, monkeypatch):
    def work():
        NGram.train(IDS, TOKENIZER, order=order, **settings)

    assert_refused_just_where_it_would_not_fit(work, monkeypatch)


@pytest.mark.parametrize("n", [1000, 100_000, 131_000, 132_000])
def test_a_table(n):
    keys = np.random.default_rng(0).choice(1 << 40, n, replace=False)
    tracemalloc.start()
    HashTable(keys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.7 * HashTable.needed(n) < peak <= HashTable.needed(n)


def test_the_first_scores_make_tables(monkeypatch):
    model = NGram.train(IDS, TOKENIZER, order=3)
    needed = HashTable.needed(len(model.levels[2].keys))
    monkeypatch.setattr(ngram_memory, "available_memory", lambda: needed - 1)
    with pytest.raises(UserError, match=r"the table of \d+ n-grams may take .* MB of memory"):
        model.score(OTHERS)
    monkeypatch.setattr(ngram_memory, "available_memory", lambda: needed)
    model.score(OTHERS)

"""Smoothing a length of n-grams part by part, for speed; the formulas are elsewhere.

An interpolated smoothing (ngram_smoothing.py) asks of the length as a whole only how many n-grams
have each count. All else belongs to one context. So its function can be given a few thousand
contexts at a time, with their n-grams, which fit the processor's cache; several threads share them.
"""

import dataclasses
import itertools

import numpy as np

from minillm.models.ngram_counts import worker_pool
from minillm.models.ngram_kneser_ney import adjusted_counts, as_kenlm
from minillm.models.ngram_length import Length

__all__ = ["interpolate_in_parts"]

PART = 1 << 15  # n-grams of a part, about
COUNTS = 8  # the numbers of n-grams with counts below this are what any formula asks for
BY_LEFT = ("kneser-ney", "modified-kneser-ney")  # count the tokens before an n-gram


@dataclasses.dataclass(frozen=True)
class _Part(Length):
    """Some contexts of a length; `known`: the whole length's numbers of n-grams by count."""

    known: tuple = ()

    def many(self, counts, largest):
        return list(self.known[: largest + 1])


def interpolate_in_parts(function, found, config, vocab_size, below, n, threads=None):
    """The numbers of one length's Level.

    Parameters
    ----------
    function : an interpolated smoothing
    found : Counts
    config : NGramConfig
    vocab_size : int
    below : float (shorter n-grams,), their probabilities; None: the uniform distribution
    n : int, the length
    threads : int or None, as many as there are processors

    Returns
    -------
    p : (M,)
    backoff : (contexts,)
    notes : list of str, where there were too few counts
    """
    p, backoff = np.empty(len(found.keys)), np.empty(len(found.first) - 1)
    cuts = np.searchsorted(found.first, np.arange(0, len(p) + PART, PART))
    cuts[-1] = len(backoff)
    cuts = np.unique(cuts).tolist()
    with worker_pool(threads, len(p)) as each:
        known = _numbers(each, found, config, n)

        def smooth(low, high):
            notes: list[str] = []
            first = found.first[low : high + 1]
            mine = slice(int(first[0]), int(first[-1]))
            context = np.repeat(np.arange(high - low), np.diff(first))
            counts = found.raw[mine], found.left[mine]
            part = _Part(n, *counts, context, high - low, vocab_size, None, known)
            alpha, gamma = function(part, config, notes)
            lower = 1 / vocab_size if below is None else below.take(found.suffix[mine])
            p[mine] = alpha + gamma[context] * lower
            backoff[low:high] = gamma
            return notes

        notes = each(lambda span: smooth(*span), list(itertools.pairwise(cuts)))
    return p, backoff, notes[0] if notes else []


def _numbers(each, found, config, n):
    """How many n-grams of the length have each count, as the smoothing counts: a tuple."""
    by_left = config.smoothing in BY_LEFT

    def part(low):
        mine = slice(low, low + PART)
        some = dataclasses.replace(found, raw=found.raw[mine], left=found.left[mine])
        counts = adjusted_counts(some) if by_left else some.raw
        return np.bincount(np.minimum(counts, COUNTS), minlength=COUNTS + 1)

    parts = each(part, range(0, len(found.keys), PART))
    many = sum(parts, np.zeros(COUNTS + 1, np.int64)).tolist()
    if config.compatibility == "kenlm" and found.last is not None:
        a, raw = int(found.left[found.last]), int(found.raw[found.last])
        many = as_kenlm(many[:COUNTS], a or raw, raw)
    return tuple(many)

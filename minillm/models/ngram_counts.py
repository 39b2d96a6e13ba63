"""Counting the n-grams of a text of ids, of every length at once, by one sort a length.

The n-grams of each length have ids of their own, 0 to M - 1. One of length k is stored as a single
integer, its key: the id of its first k - 1 tokens (an n-gram one shorter) times the vocabulary's
size, plus its last token. The keys of a length are sorted, so an n-gram's continuations lie side by
side in the next length's keys, and an n-gram is found from its prefix by one binary search.

Documents: each ends in the end id, which also stands, once, before the first token of the next as
its context. No n-gram reaches across, so those at a document's start are as long as they can be
and begin with the end id, which nothing precedes.
"""

import dataclasses

import numpy as np

__all__ = ["Counts", "count_ngrams"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """The n-grams of one length.

    Attributes
    ----------
    keys : int64 (M,), sorted: prefix * vocab_size + last token; of length 1 every token has one
    raw : int64 (M,), how often each occurs
    left : int64 (M,), after how many different tokens it comes: N1+(. ngram); 0 where
        nothing precedes it, and for the longest n-grams, for which it is not counted
    """

    keys: np.ndarray
    raw: np.ndarray
    left: np.ndarray


def count_ngrams(ids, *, order, vocab_size, end_id):
    """Count the n-grams of length 1 to `order`.

    Parameters
    ----------
    ids : integers (N,) below vocab_size, each document followed by end_id

    Returns
    -------
    counts : list of Counts, by length
    """
    tokens = np.concatenate([[end_id], ids]).astype(np.int64)  # (N + 1,)
    reach = _context_lengths(tokens, end_id)  # (N,)
    keys = np.arange(vocab_size, dtype=np.int64)
    raw = np.bincount(tokens[1:], minlength=vocab_size)  # (V,)
    node = tokens  # (N + 1,), the id of the n-gram that ends at each token
    result = []
    for length in range(2, order + 1):
        before = np.flatnonzero(reach >= length - 1)  # where a prefix long enough ends
        pairs = node[before] * vocab_size + tokens[before + 1]
        longer_keys, rank, one, longer_raw = _group(pairs, len(keys) * vocab_size)
        # An n-gram has as many different left neighbours as longer ones end in it.
        left = np.bincount(node[before[one] + 1], minlength=len(keys))
        result.append(Counts(keys, raw, left))
        keys, raw = longer_keys, longer_raw
        node = np.full(len(tokens), -1)
        node[before + 1] = rank
    return [*result, Counts(keys, raw, np.zeros_like(raw))]


def _context_lengths(tokens, end_id):
    """How many tokens stand before each of tokens[1:] in its document, the end id included.

    tokens : (N + 1,); returns (N,)
    """
    index = np.arange(len(tokens))
    start = np.maximum.accumulate(np.where(tokens == end_id, index, 0))
    return (index - start)[:-1] + 1


def _group(keys, limit):
    """Group equal keys, all below `limit`, by one sort.

    Returns the distinct keys in order (M,), each key's place among them (n,), the index of one
    occurrence of each (M,), and how often each occurs (M,).
    """
    n = len(keys)
    bits = n.bit_length()
    if limit.bit_length() + bits <= 63:
        # A plain sort is several times faster than argsort: the index rides in the low bits.
        packed = np.sort(keys << bits | np.arange(n))
        by_key, ordered = packed & (1 << bits) - 1, packed >> bits
    else:
        by_key = np.argsort(keys, kind="stable")
        ordered = keys[by_key]
    new = np.ones(n, bool)
    new[1:] = ordered[1:] != ordered[:-1]
    rank = np.empty(n, np.int64)
    rank[by_key] = np.cumsum(new) - 1
    start = np.flatnonzero(new)
    return ordered[start], rank, by_key[start], np.diff(start, append=n)

"""Counting n-grams a token at a time, by dictionaries: ngram_counts.py, to read first."""

from collections import defaultdict

import numpy as np

from minillm.models.ngram_counts import Counts

__all__ = ["count_ngrams_simply"]


def count_ngrams_simply(ids, *, order, vocab_size, end_id):
    """The Counts of length 1 to `order`, as `count_ngrams` gives them, but for `last`."""
    raw: list[dict] = [
        defaultdict(int) for _ in range(order)
    ]  # n-gram, a tuple -> how often it occurs
    before: list[dict] = [
        defaultdict(set) for _ in range(order)
    ]  # n-gram -> the tokens in front of it
    document = [end_id]
    for token in ids:
        document.append(int(token))
        for k in range(1, min(order, len(document)) + 1):
            gram = tuple(document[-k:])
            raw[k - 1][gram] += 1
            if k > 1:
                before[k - 2][gram[1:]].add(gram[0])
        if token == end_id:
            document = [end_id]
    for token in range(vocab_size):
        raw[0][(token,)] += 0  # of length 1 every token is there
    result = []
    shorter: dict = {(): 0}  # the n-grams one shorter -> their ids
    suffix_ids: dict = {(): 0}
    for k in range(order):
        key = {gram: shorter[gram[:-1]] * vocab_size + gram[-1] for gram in raw[k]}
        grams = sorted(key, key=key.__getitem__)
        keys = np.array([key[gram] for gram in grams], np.int64)
        often = np.array([raw[k][gram] for gram in grams], np.int64)
        left = np.array([len(before[k][gram]) for gram in grams], np.int64)
        suffix = np.array([suffix_ids[gram[1:]] for gram in grams], np.int32)
        first = np.searchsorted(keys, np.arange(len(shorter) + 1) * vocab_size)
        result.append(Counts(keys, often, left, suffix, first))
        shorter = suffix_ids = {gram: i for i, gram in enumerate(grams)}
    return result

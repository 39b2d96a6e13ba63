"""Wrong backwards of the added table of waves."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    b, t, c = sizes(rng, 3, ones=0.1)
    positions = rng.integers(0, 50, t) if rng.random() < 0.5 else None
    return (rng.standard_normal((b, t, c)),), {"positions": positions, "base": 100.0}


def table(dy):
    """The waves of positions 0 to T - 1, (T, C)."""
    _, n_time, n_channel = dy.shape
    channel = np.arange(n_channel)
    angle = np.arange(n_time)[:, None] / 100.0 ** (channel // 2 * 2 / n_channel)
    return np.where(channel % 2 == 0, np.sin(angle), np.cos(angle)).astype(dy.dtype)


@wrong("local_derivative", "The backward of a product with the table, where forward has a sum.")
def table_multiplied(dy, saved, ops):
    return dy * table(dy)


@wrong(("upstream_ignored", "local_derivative"), "Backward repeats forward: dy + table.")
def table_added(dy, saved, ops):
    return dy + table(dy)


@wrong("missing_sum", "The sum over the batch that a learned table would get, given to x.")
def summed_over_the_batch(dy, saved, ops):
    return np.repeat(dy.sum(0, keepdims=True), len(dy), 0)


@wrong("zero", "The table is constant, so its op is taken to have no gradient at all.")
def nothing_arrives(dy, saved, ops):
    return np.zeros_like(dy)


@wrong("wrong_step", "Positions counted from 1 in backward: each gradient lands one step later.")
def rolled_along_time(dy, saved, ops):
    return np.roll(dy, 1, axis=1)


@wrong("part_wrong", "Even channels and odd ones are written apart, and one line was forgotten.")
def sines_alone(dy, saved, ops):
    dx = np.zeros_like(dy)
    dx[..., ::2] = dy[..., ::2]
    return dx

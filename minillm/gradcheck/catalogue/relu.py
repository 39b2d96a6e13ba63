"""Wrong backwards of the rectifier."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    x = rng.standard_normal(sizes(rng, int(rng.integers(2, 4)), least=3, ones=0.08))
    return (x + np.copysign(0.1, x),), {}  # away from the kink


@wrong("mask_forgotten", "The gradient passes as if nothing had been cut off.")
def passes_everything(dy, x, ops):
    return dy.copy()


@wrong(
    ("mask_forgotten", "local_derivative"),
    "Negative gradients cut, not those of negative inputs (exacity/deeplearningbook-chinese 127).",
)
def cut_by_the_gradients_sign(dy, x, ops):
    return dy * (dy > 0)


@wrong("local_derivative", "The slope of the leaky variant.")
def leaks(dy, x, ops):
    return np.where(x > 0, dy, 0.01 * dy)


@wrong("local_derivative", "The output for its gate: dy * max(x, 0).")
def scaled_by_the_value(dy, x, ops):
    return dy * np.maximum(x, 0)


@wrong("upstream_ignored", "dx = gate where dx *= gate was meant (haifengl/smile, issue 528).")
def upstream_overwritten(dy, x, ops):
    return (x > 0).astype(x.dtype)


@wrong("mutates", "dx = dy; dx[x <= 0] = 0: the caller's array is written to, not a copy.")
def gated_in_place(dy, x, ops):
    dx = dy
    dx[x <= 0] = 0
    return dx

"""Wrong backwards of a residual sum with its RMS norm."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, width = sizes(rng, int(rng.integers(2, 4)), ones=0.08)
    width = max(width, 2)
    x, residual = rng.standard_normal((2, *leading, width))
    eps = float(rng.choice([1e-3, 0.1]))
    return (2 * x, residual + 1, rng.standard_normal(width)), {"eps": eps}


def parts(dout, saved, ops):
    """Both upstream gradients, what comes through the norm, and the gain's gradient."""
    total, norm_cache = saved
    dy, dtotal = (np.zeros_like(total) if d is None else d for d in dout)
    through_norm, dgain = ops.rms_norm.backward(dy, norm_cache)
    return dy, dtotal, through_norm, dgain


@wrong(("overwritten", "upstream_ignored"), "The sum went two ways; only the norm's comes back.")
def sum_not_carried_on(dout, saved, ops):
    _, _, through_norm, dgain = parts(dout, saved, ops)
    return through_norm, through_norm.copy(), dgain


@wrong("overwritten", "The residual is led around the norm, as if the sum came after it.")
def residual_around_the_norm(dout, saved, ops):
    _, dtotal, through_norm, dgain = parts(dout, saved, ops)
    return through_norm + dtotal, dtotal.copy(), dgain


@wrong(
    ("local_derivative", "overwritten"),
    "Added too early: (dy + dtotal) goes through the norm (Dao-AILab/quack, pull request 53).",
)
def added_before_the_norm(dout, saved, ops):
    dy, dtotal, _, dgain = parts(dout, saved, ops)
    dx, _ = ops.rms_norm.backward(dy + dtotal, saved[1])
    return dx, dx.copy(), dgain


@wrong("missing", "No gradient for the residual (as in Dao-AILab/quack, pull request 52).")
def none_for_the_residual(dout, saved, ops):
    dx, _, dgain = ops.right(dout, saved)
    return dx, None, dgain


@wrong(("overwritten", "upstream_ignored"), "The sum went two ways; the norm's does not come back.")
def norm_left_out(dout, saved, ops):
    _, dtotal, _, dgain = parts(dout, saved, ops)
    return dtotal.copy(), dtotal.copy(), dgain


@wrong("factor", "The gradient of a sum is shared out: half for each.")
def half_for_each(dout, saved, ops):
    _, dtotal, through_norm, dgain = parts(dout, saved, ops)
    half = (through_norm + dtotal) / 2
    return half, half.copy(), dgain

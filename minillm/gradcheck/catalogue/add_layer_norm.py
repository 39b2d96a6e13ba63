"""Wrong backwards of a residual sum with its layer norm."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, width = sizes(rng, int(rng.integers(2, 4)), least=3, ones=0.08)
    width = max(width, 3)  # two values can only become -1 and 1
    x, residual = rng.standard_normal((2, *leading, width))
    eps = float(rng.choice([1e-3, 0.1]))
    args = 2 * x, residual + 1, rng.standard_normal(width), rng.standard_normal(width)
    return args, {"eps": eps}


def parts(dout, saved, ops):
    """What comes through the norm and what comes beside it, and the parameters' gradients."""
    total, norm_cache = saved
    dy, dtotal = (np.zeros_like(total) if d is None else d for d in dout)
    through_norm, dgain, dbias = ops.layer_norm.backward(dy, norm_cache)
    return through_norm, dtotal, dgain, dbias


@wrong(("overwritten", "upstream_ignored"), "The sum went two ways; only the norm's comes back.")
def sum_not_carried_on(dout, saved, ops):
    through_norm, _, dgain, dbias = parts(dout, saved, ops)
    return through_norm, through_norm.copy(), dgain, dbias


@wrong(("overwritten", "upstream_ignored"), "The sum went two ways; the norm's does not come back.")
def norm_left_out(dout, saved, ops):
    _, dtotal, dgain, dbias = parts(dout, saved, ops)
    return dtotal.copy(), dtotal.copy(), dgain, dbias


@wrong("overwritten", "The residual is led around the norm, as if the sum came after it.")
def residual_around_the_norm(dout, saved, ops):
    through_norm, dtotal, dgain, dbias = parts(dout, saved, ops)
    return through_norm + dtotal, dtotal.copy(), dgain, dbias


@wrong("factor", "The gradient of a sum is shared out: half for each.")
def half_for_each(dout, saved, ops):
    through_norm, dtotal, dgain, dbias = parts(dout, saved, ops)
    half = (through_norm + dtotal) / 2
    return half, half.copy(), dgain, dbias


@wrong("zero", "The residual is taken for a constant, and only x gets a gradient.")
def nothing_for_the_residual(dout, saved, ops):
    dx, dresidual, dgain, dbias = ops.right(dout, saved)
    return dx, np.zeros_like(dresidual), dgain, dbias

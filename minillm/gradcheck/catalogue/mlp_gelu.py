"""Wrong backwards of the transformer's feed-forward layer."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, c_in, wide, c_out = sizes(rng, int(rng.integers(4, 6)), largest=5, ones=0.1)
    bias_up = None if rng.random() < 0.05 else rng.standard_normal(wide)
    bias_down = None if rng.random() < 0.05 else rng.standard_normal(c_out)
    args = (
        rng.standard_normal((*leading, c_in)),
        rng.standard_normal((c_in, wide)),
        bias_up,
        rng.standard_normal((wide, c_out)),
        bias_down,
    )
    return args, {"approximate": str(rng.choice(["none", "tanh"]))}


def back(dy, saved, ops, through_gelu):
    """The right way back, but for what `through_gelu` does between the two linear maps."""
    up_cache, gelu_cache, down_cache = saved
    dactive, ddown, dbias_down = ops.linear.backward(dy, down_cache)
    dx, dup, dbias_up = ops.linear.backward(through_gelu(dactive, gelu_cache), up_cache)
    return dx, dup, dbias_up, ddown, dbias_down


def rows(a):
    return a.reshape(-1, a.shape[-1])


@wrong("local_derivative", "The activation has no line in backward.")
def gelu_skipped(dy, saved, ops):
    return back(dy, saved, ops, lambda dactive, _: dactive)


@wrong("local_derivative", "Forward went from ReLU to GELU; backward stayed.")
def slope_of_relu(dy, saved, ops):
    return back(dy, saved, ops, lambda dactive, c: dactive * (c.saved[0] > 0))


@wrong("local_derivative", "The second weight's gradient is taken with the values before GELU.")
def down_weight_from_before_gelu(dy, saved, ops):
    dx, dup, dbias_up, _, dbias_down = ops.right(dy, saved)
    wide = saved[1].saved[0]
    return dx, dup, dbias_up, rows(wide).T @ rows(dy), dbias_down


@wrong("local_derivative", "The first bias gets the gradient from after GELU.")
def up_bias_from_after_gelu(dy, saved, ops):
    dx, dup, dbias_up, ddown, dbias_down = ops.right(dy, saved)
    if dbias_up is not None:
        dactive, _, _ = ops.linear.backward(dy, saved[2])
        dbias_up = rows(dactive).sum(0)
    return dx, dup, dbias_up, ddown, dbias_down


@wrong(("missing_sum", "factor"), "Both biases get the mean over the rows for their sum.")
def biases_averaged(dy, saved, ops):
    dx, dup, dbias_up, ddown, dbias_down = ops.right(dy, saved)
    n = len(rows(dy))
    dbias_up, dbias_down = (None if d is None else d / n for d in (dbias_up, dbias_down))
    return dx, dup, dbias_up, ddown, dbias_down


@wrong(("other_parameter", "shape", "missing"), "The two biases change places in the tuple.")
def biases_swapped(dy, saved, ops):
    dx, dup, dbias_up, ddown, dbias_down = ops.right(dy, saved)
    return dx, dup, dbias_down, ddown, dbias_up


@wrong("zero", "One bias is forgotten: its gradient stays as it was allocated, zero.")
def nothing_for_the_down_bias(dy, saved, ops):
    *others, dbias_down = ops.right(dy, saved)
    return *others, None if dbias_down is None else np.zeros_like(dbias_down)


@wrong("local_derivative", "Forward is by tanh and backward by erf, or the other way round.")
def slope_of_the_other_form(dy, saved, ops):
    def through_gelu(dactive, gelu_cache):
        wide, _, form = gelu_cache.saved
        _, cache = ops.gelu(wide, approximate="none" if form == "tanh" else "tanh")
        return ops.gelu.backward(dactive, cache)

    return back(dy, saved, ops, through_gelu)


@wrong("local_derivative", "The output was kept for backward where its formula wants the input.")
def slope_at_the_output(dy, saved, ops):
    def through_gelu(dactive, gelu_cache):
        wide, cdf, form = gelu_cache.saved
        _, cache = ops.gelu(wide * cdf, approximate=form)
        return ops.gelu.backward(dactive, cache)

    return back(dy, saved, ops, through_gelu)

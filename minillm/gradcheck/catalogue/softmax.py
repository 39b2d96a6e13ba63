"""Wrong backwards of the normalised exponential."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    shape = list(sizes(rng, int(rng.integers(2, 4))))
    axis = int(rng.integers(-len(shape), len(shape)))
    shape[axis] = max(shape[axis], 3)  # of a single score the gradient is zero
    return (1.5 * rng.standard_normal(shape),), {"axis": axis}


@wrong(
    "missing_term",
    "p * (1 - p), as if it were elementwise (eriklindernoren/ML-From-Scratch, issue 71).",
)
def diagonal_alone(dy, saved, ops):
    y, _ = saved
    return dy * y * (1 - y)


@wrong(
    "missing_term",
    "The sum below the fraction is held constant (HomericIntelligence/Odyssey, 2134).",
)
def sum_held_constant(dy, saved, ops):
    y, _ = saved
    return dy * y


@wrong(("missing_term", "factor"), "The subtracted term is a mean over the axis, not a sum.")
def mean_for_the_sum(dy, saved, ops):
    y, axis = saved
    return y * (dy - (dy * y).mean(axis, keepdims=True))


@wrong("missing_term", "Summed along the first axis that is not softmax's own.")
def summed_over_another_axis(dy, saved, ops):
    y, axis = saved
    return y * (dy - (dy * y).sum(1 if axis % y.ndim == 0 else 0, keepdims=True))


@wrong("missing_term", "np.sum(dy * y) without its axis: all rows are taken for one.")
def summed_over_everything(dy, saved, ops):
    y, _ = saved
    return y * (dy - (dy * y).sum())


@wrong("missing_term", "The subtracted sum is that of dy, not of dy * y.")
def summed_without_probabilities(dy, saved, ops):
    y, axis = saved
    return y * (dy - dy.sum(axis, keepdims=True))


@wrong("zero", "The loss took the gradient of softmax too; right for a constant upstream alone.")
def all_zeros(dy, saved, ops):
    return np.zeros_like(dy)


@wrong("factor", "A 2 too many, from a sum over both halves of a symmetric Jacobian.")
def twice(dy, saved, ops):
    return 2 * ops.right(dy, saved)


@wrong(("cache_spent", "mutates"), "y *= ... saves an array, and ruins the output that was kept.")
def computed_in_the_cache(dy, saved, ops):
    y, axis = saved
    y *= dy - (dy * y).sum(axis, keepdims=True)
    return y

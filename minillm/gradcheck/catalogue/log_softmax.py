"""Wrong backwards of the logarithm of softmax."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    shape = list(sizes(rng, int(rng.integers(2, 4))))
    axis = int(rng.integers(-len(shape), len(shape)))
    shape[axis] = max(shape[axis], 3)  # of a single score the gradient is zero
    return (1.5 * rng.standard_normal(shape),), {"axis": axis}


@wrong(
    ("missing_term", "local_derivative"), "The saved y is a logarithm and is used as if it were p."
)
def logarithms_for_probabilities(dy, saved, ops):
    y, axis = saved
    return dy - y * dy.sum(axis, keepdims=True)


@wrong("upstream_ignored", "onehot - p, the loss's gradient: right where dy is one-hot in a row.")
def upstream_taken_for_one_hot(dy, saved, ops):
    y, _ = saved
    return dy - np.exp(y)


@wrong(
    ("upstream_ignored", "sign"),
    "p + dy: the loss's gradient p - onehot with dy put for -onehot (mlpack, issue 2360).",
)
def upstream_added_to_probabilities(dy, saved, ops):
    y, _ = saved
    return np.exp(y) + dy


@wrong("missing_term", "The normaliser is held constant.")
def normaliser_held_constant(dy, saved, ops):
    return dy.copy()


@wrong(("local_derivative", "missing_term"), "The backward of softmax, of which this is the log.")
def backward_of_softmax(dy, saved, ops):
    y, axis = saved
    p = np.exp(y)
    return p * (dy - (dy * p).sum(axis, keepdims=True))


@wrong(("missing_term", "factor"), "The subtracted term has a mean over the axis for its sum.")
def mean_for_the_sum(dy, saved, ops):
    y, axis = saved
    return dy - np.exp(y) * dy.mean(axis, keepdims=True)

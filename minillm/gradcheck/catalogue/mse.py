"""Wrong backwards of the mean squared error."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    shape = sizes(rng, int(rng.integers(2, 4)), ones=0.1)
    return (rng.standard_normal(shape), rng.standard_normal(shape) + 1), {}


@wrong("factor", "The 2 of the square is lost (davisking/dlib, issue 1169).")
def two_forgotten(dloss, difference, ops):
    d = dloss * difference / difference.size
    return d, -d


@wrong("factor", "Forward takes a mean; backward is that of a sum.")
def not_averaged(dloss, difference, ops):
    d = 2 * dloss * difference
    return d, -d


@wrong("factor", "Divided by the number of rows, though forward's mean is over all elements.")
def averaged_over_rows_alone(dloss, difference, ops):
    d = 2 * dloss * difference / len(difference)
    return d, -d


@wrong("sign", "Both arguments get the gradient of the first.")
def same_sign_for_both(dloss, difference, ops):
    d, _ = ops.right(dloss, difference)
    return d, d.copy()


@wrong("zero", "A target is data, so no gradient; but the signature promises one.")
def target_held_constant(dloss, difference, ops):
    d, _ = ops.right(dloss, difference)
    return d, np.zeros_like(d)


@wrong("local_derivative", "The slope of the absolute error: the sign of the difference.")
def slope_of_the_absolute_error(dloss, difference, ops):
    d = dloss * np.sign(difference) / difference.size
    return d, -d


@wrong("upstream_ignored", "A loss is taken for the end of all.")
def upstream_forgotten(dloss, difference, ops):
    d = 2 * difference / difference.size
    return d, -d

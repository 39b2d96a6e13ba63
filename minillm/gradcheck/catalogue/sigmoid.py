"""Wrong backwards of the logistic function."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    return (2 * rng.standard_normal(sizes(rng, int(rng.integers(2, 4)), least=3)),), {}


@wrong(
    "local_derivative",
    "s(y) * (1 - s(y)), where y is s(x) already (as in rasmusbergpalm/DeepLearnToolbox, 165).",
)
def squashed_twice(dy, y, ops):
    again = 1 / (1 + np.exp(-y))
    return dy * again * (1 - again)


@wrong(
    "local_derivative",
    "x * (1 - x) of the saved input, not of the output (BoltzmannEntropy/interviews.ai, issue 15).",
)
def derivative_at_the_input(dy, y, ops):
    x = np.log(y / (1 - y))
    return dy * x * (1 - x)


@wrong("local_derivative", "The factor 1 - y is lost.")
def without_complement(dy, y, ops):
    return dy * y


@wrong("upstream_ignored", "The derivative alone is returned, not times the upstream gradient.")
def upstream_forgotten(dy, y, ops):
    return y * (1 - y)


@wrong("sign", "y * (y - 1): the complement the wrong way round.")
def sign_turned(dy, y, ops):
    return dy * y * (y - 1)


@wrong("local_derivative", "The slope of tanh, copied from the file beside it.")
def slope_of_tanh(dy, y, ops):
    return dy * (1 - y**2)

"""Wrong backwards of the hyperbolic tangent."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    return (1.5 * rng.standard_normal(sizes(rng, int(rng.integers(2, 4)), least=3)),), {}


@wrong("local_derivative", "1 - y for 1 - y**2.")
def square_forgotten(dy, y, ops):
    return dy * (1 - y)


@wrong("local_derivative", "The slope of the logistic function, copied from the file beside it.")
def slope_of_sigmoid(dy, y, ops):
    return dy * y * (1 - y)


@wrong(
    "local_derivative",
    "-tanh(x)**2: the 1 is lost, as in a table (scutan90/DeepLearning-500-questions, issue 544).",
)
def one_forgotten(dy, y, ops):
    return -dy * y**2


@wrong("part_wrong", "A loop over the rows ends one too early: the last one's gradient stays 0.")
def last_row_left_out(dy, y, ops):
    dx = np.zeros_like(y)
    for row in range(len(y) - 1):
        dx[row] = dy[row] * (1 - y[row] ** 2)
    return dx


@wrong("local_derivative", "1 - tanh(y)**2, where y is tanh(x) already.")
def squashed_twice(dy, y, ops):
    return dy * (1 - np.tanh(y) ** 2)

"""Whether a gradient is nothing but what rounding left of terms that cancel.

Softmax over a single key has the gradient p (dp - p dp), which is zero on paper and 1e-17 in
practice. No size tells that from a small gradient, since the terms that cancelled are not seen. But
it is another number as soon as the arguments move in their last digits, and a gradient is not.
"""

import numpy as np

from minillm.gradcheck.contract import Contract, gradients_of
from minillm.gradcheck.steps import length

__all__ = ["only_rounding"]

HAIR = 1000.0  # how far an argument moves, in units of its dtype's precision
HAIRS = 3  # how often; rounding may come out alike once
SHARE = 0.1  # of a gradient that a hair may change


def only_rounding(problem, index, cotangents, gradients):
    """Whether a leaf's gradients, one for each cotangent, are rounding and no more.

    Parameters
    ----------
    problem : Problem
    index : int, of the leaf
    cotangents, gradients : sequences; the largest of the gradients decides

    Returns
    -------
    bool
    """
    k = max(range(len(gradients)), key=lambda i: length(gradients[i]))
    size = length(gradients[k])
    rng = np.random.default_rng(0)
    for _ in range(HAIRS):
        near = _gradient_near(problem, index, cotangents[k], rng)
        if near is not None and length(near - gradients[k]) > SHARE * size > 0:
            return True
    return False


def _gradient_near(problem, index, cotangent, rng):
    """The gradient of a leaf a hair's breadth away, or None where there is none."""
    moved = {
        i: leaf.value * (1 + HAIR * leaf.eps * rng.uniform(-1, 1, leaf.value.shape))
        for i, leaf in enumerate(problem.leaves)
    }
    with np.errstate(all="ignore"):
        _, cache = problem.call(problem.args_with(moved))
        problem.backwards += 1
        raw = problem.backward(problem.cotangent(cotangent), cache)
    return gradients_of(problem, Contract(), raw)[index]

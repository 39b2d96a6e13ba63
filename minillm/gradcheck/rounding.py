"""Whether a gradient is nothing but what rounding left of terms that cancel.

Softmax over a single key has the gradient p (dp - p dp), which is zero on paper and 1e-17 in
practice. No size tells that from a small gradient, since the terms that cancelled are not seen. But
it is another number as soon as the arguments move in their last digits, and a gradient is not. What
1 - 0.2 - 0.8 leaves does not even move; beside the outputs it is nothing.
"""

import numpy as np

from minillm.gradcheck.gradients import Contract, gradients_of
from minillm.gradcheck.problem import scale_of
from minillm.gradcheck.steps import length

__all__ = ["beside_outputs", "changes_with_a_hair", "only_rounding"]

LAST_DIGITS = 8  # of the outputs, within which a gradient may be what cancelling left

HAIR = 1000.0  # how far an argument moves, in units of its dtype's precision
HAIRS = 8  # how often; rounding often comes out alike
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
    k = _largest(gradients)
    within = beside_outputs(problem, index, cotangents[k], length(gradients[k]))
    return within or changes_with_a_hair(problem, index, cotangents, gradients)


def changes_with_a_hair(problem, index, cotangents, gradients):
    """Whether the gradients change by their own size when all arguments move a hair's breadth."""
    k = _largest(gradients)
    size = length(gradients[k])
    rng = np.random.default_rng(0)
    for hair in HAIR * np.arange(1, HAIRS + 1):
        near = _gradient_near(problem, index, cotangents[k], hair, rng)
        if near is not None and length(near - gradients[k]) > SHARE * size > 0:
            return True
    return False


def beside_outputs(problem, index, cotangent, size):
    """Whether a gradient of this size is within the last digits of the outputs it belongs to.

    And within those of the upstream gradient: beside large outputs, a small bias is no rounding.
    """
    swing = size * scale_of(problem.leaves[index].value)
    eps = float(np.finfo(problem.precision(index)).eps)
    return swing <= LAST_DIGITS * eps * min(length(cotangent), length(cotangent * problem.flat))


def _largest(gradients):
    return max(range(len(gradients)), key=lambda i: length(gradients[i]))


def _gradient_near(problem, index, cotangent, hair, rng):
    """The gradient of a leaf a hair's breadth away, or None where there is none."""
    moved = {
        i: leaf.value * (1 + hair * leaf.eps * rng.uniform(-1, 1, leaf.value.shape))
        for i, leaf in enumerate(problem.leaves)
    }
    with np.errstate(all="ignore"):
        _, cache = problem.call(problem.args_with(moved))
        problem.backwards += 1
        raw = problem.backward(problem.cotangent(cotangent), cache)
    return gradients_of(problem, Contract(), raw)[index]

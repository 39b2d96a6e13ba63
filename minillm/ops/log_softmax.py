"""The logarithm of softmax, shifted (Blanchard, Higham & Higham 2021, arXiv:1909.03469).

Left out: the choice of one entry in each row, see cross_entropy.py.
"""

import numpy as np

from minillm.ops._op import op


@op
def log_softmax(x, *, axis=-1):
    """Turn scores into log-probabilities along an axis.

    Equation: y_i = x_i - log sum_j exp(x_j)

    Parameters
    ----------
    x : (...)
    axis : int

    Returns
    -------
    y : (...)
    """
    largest = x.max(axis, keepdims=True)  # (..., 1)
    shifted = x - np.where(largest == -np.inf, 0, largest)  # (...)
    # The largest adds exp(0) = 1, so the sum is below 1 in a row of -inf alone.
    total = np.maximum(np.exp(shifted).sum(axis, keepdims=True), 1)  # (..., 1)
    y = shifted - np.log(total)  # (...)
    return y, (y, axis)


@log_softmax.defbackward
def log_softmax_backward(dy, cache):
    y, axis = cache
    # forward: y_i = x_i - log sum_j exp(x_j); the logarithm's slope in x_j is exp(y_j)
    return dy - np.exp(y) * dy.sum(axis, keepdims=True)

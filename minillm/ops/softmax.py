"""The normalised exponential (Bridle 1990, in Neurocomputing, NATO ASI F68, pp. 227 to 236).

Left out: masks and temperature, which are additions to and divisions of x; the fusion with
attention, see flash_attention.py.
"""

import numpy as np

from minillm.ops._op import op


@op
def softmax(x, *, axis=-1):
    """Turn scores into probabilities along an axis; a row of nothing but -inf gives zeros.

    Equation: y_i = exp(x_i) / sum_j exp(x_j)

    Parameters
    ----------
    x : (...)
    axis : int

    Returns
    -------
    y : (...)
    """
    largest = x.max(axis, keepdims=True)  # (..., 1)
    # exp(x - largest) cannot overflow; where all is -inf there is nothing to subtract.
    weights = np.exp(x - np.where(largest == -np.inf, 0, largest))  # (...)
    # The largest has weight 1, so the sum is below 1 in a row of -inf alone.
    y = weights / np.maximum(weights.sum(axis, keepdims=True), 1)  # (...)
    return y, (y, axis)


@softmax.defbackward
def softmax_backward(dy, cache):
    y, axis = cache
    # forward: y_i = exp(x_i) / sum_j exp(x_j); raising one score lowers all the others' shares
    return y * (dy - (dy * y).sum(axis, keepdims=True))

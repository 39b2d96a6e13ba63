"""The logistic function (Rumelhart, Hinton & Williams 1986, Nature 323, eq. 2).

Left out: its logarithm, which loses digits when taken afterwards: see binary_cross_entropy.py.
"""

import numpy as np

from minillm.ops._op import op


@op
def sigmoid(x):
    """Squash each value into (0, 1).

    Equation: y = 1 / (1 + exp(-x))

    Parameters
    ----------
    x : (...)

    Returns
    -------
    y : (...)
    """
    # exp(-|x|) never overflows; for x < 0 the fraction is widened by exp(x).
    small = np.exp(-np.abs(x))  # (...)
    y = np.where(x >= 0, 1, small) / (1 + small)  # (...)
    return y, y


@sigmoid.defbackward
def sigmoid_backward(dy, y):
    # forward: y = 1 / (1 + exp(-x))
    return dy * y * (1 - y)

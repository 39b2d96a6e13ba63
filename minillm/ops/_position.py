"""What the two position ops share."""

import numpy as np

from minillm.ops._check import check_integers


def check_positions(positions, x):
    """The positions of x's T rows, (T,), where x is (..., T, channels); by default 0 to T - 1.

    Raises
    ------
    ValueError
        if positions is not an array of integers of that shape.
    """
    if positions is None:
        return np.arange(x.shape[-2], like=x)
    check_integers("positions", positions, (x.shape[-2],))
    return np.asarray(positions, like=x)

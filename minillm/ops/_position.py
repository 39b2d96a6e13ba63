"""What the two position ops share."""

import numpy as np


def check_positions(positions, x):
    """The positions of x's T rows, (T,), where x is (..., T, channels); by default 0 to T - 1.

    Raises
    ------
    ValueError
        if positions is not an array of integers of that shape.
    """
    rows = x.shape[-2]
    if positions is None:
        return np.arange(rows, like=x)
    positions = np.asarray(positions, like=x)
    if positions.shape != (rows,) or positions.dtype.kind not in "iu":
        raise ValueError(
            f"positions must be integers of shape ({rows},), "
            f"got {positions.dtype} of shape {positions.shape}"
        )
    return positions

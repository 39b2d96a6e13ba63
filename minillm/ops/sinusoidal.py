"""Sinusoidal positions (Vaswani et al. 2017, arXiv:1706.03762, section 3.5).

Left out: positions that turn the queries and keys instead, see rotary.py; learned positions are an
embedding, see embedding.py.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops._position import check_positions


@op
def sinusoidal(x, *, positions=None, base=10000.0):
    """Add to each row waves of its position: sines in even channels, cosines in odd ones.

    Equation: y = x + table, table[t, 2i] = sin(t / base**(2i/C)), table[t, 2i+1] = cos(same)

    Parameters
    ----------
    x : (B, T, C)
    positions : None (0, 1, ..., T - 1) or int (T,)
    base : float, the longest wave is about 2 pi * base positions long

    Returns
    -------
    y : (B, T, C)

    Raises
    ------
    ValueError
        if x does not have 3 axes, or for positions of another shape or dtype.
    """
    check_shape("x", x, (None, None, None))
    positions = check_positions(positions, x)
    channel = np.arange(x.shape[-1], like=x)  # (C,)
    angle = positions[:, None] / base ** (channel // 2 * 2 / x.shape[-1])  # (T, C), in float64
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))  # (T, C)
    return x + table.astype(x.dtype), None


@sinusoidal.defbackward
def sinusoidal_backward(dy, cache):
    # forward: y = x + table, and the table depends on no parameter
    return dy.copy()

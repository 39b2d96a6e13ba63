"""Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34).

Channels i and i + D/2 form a pair, as in GPT-NeoX and LLaMA; the paper pairs 2i and 2i + 1, which
is the same up to the order of the channels.
Left out: positions that are added instead, see sinusoidal.py.
"""

import numpy as np

from minillm.ops._op import op
from minillm.ops._position import check_positions


@op
def rotary(x, *, positions=None, base=10000.0):
    """Turn each pair of channels by an angle that grows with the position.

    Equation: (y1, y2) = (x1 cos a - x2 sin a, x2 cos a + x1 sin a), a = position * base**(-2i/D)

    The dot product of a turned query and a turned key depends on their distance alone.

    Parameters
    ----------
    x : (B, H, T, D), D even
    positions : None (0, 1, ..., T - 1) or int (T,)
    base : float, the slowest pair turns about once in 2 pi * base positions

    Returns
    -------
    y : (B, H, T, D)

    Raises
    ------
    ValueError
        for an odd D, or positions of another shape or dtype.
    """
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ValueError(f"x must have shape (B, H, T, D) with D even, got {x.shape}")
    positions = check_positions(positions, x)
    half = x.shape[-1] // 2
    speed = base ** (-np.arange(half, like=x) / half)  # (D/2,)
    angle = positions[:, None] * speed  # (T, D/2), in float64
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    return turn(x, cos, sin), (cos, sin)


@rotary.defbackward
def rotary_backward(dy, cache):
    cos, sin = cache
    # forward: y = turn(x, angle); a rotation's transpose is the rotation by the opposite angle
    return turn(dy, cos, -sin)


def turn(x, cos, sin):
    x1, x2 = np.split(x, 2, axis=-1)  # (B, H, T, D/2)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)

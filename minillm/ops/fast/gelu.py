"""gelu (tanh form) with its derivative made in the same passes, so that backward is one product.

The erf form stays with the reference: NumPy has no vectorised erf to gain from.
"""

import math

import numpy as np

from minillm.ops._op import register
from minillm.ops._state import Registry
from minillm.ops.fast._pieces import PIECE, pieces

SLOPE, CUBIC = math.sqrt(2 / math.pi), 0.044715


def gelu_rows(h, bias, derivative):
    """gelu(h + bias) for rows h (N, F), written over h; its derivative goes to `derivative`.

    With u = SLOPE (x + CUBIC x^3) and t = tanh(u):
    y = x (1 + t) / 2 and dy/dx = (1 + t) / 2 + x (1 - t^2) / 2 * SLOPE (1 + 3 CUBIC x^2).
    """
    n, width = h.shape
    size = min(n * width, max(PIECE, width))
    square, work = np.empty(size, h.dtype), np.empty(size, h.dtype)
    for piece in pieces(n, width):
        x, d = h[piece], derivative[piece]
        s, t = square[: x.size].reshape(x.shape), work[: x.size].reshape(x.shape)
        if bias is not None:
            x += bias
        np.multiply(x, x, out=s)
        s *= SLOPE * CUBIC
        np.add(s, SLOPE, out=t)
        t *= x
        np.tanh(t, out=t)
        s *= 3
        s += SLOPE  # du/dx
        x *= 0.5
        np.multiply(t, t, out=d)
        np.subtract(1, d, out=d)
        d *= s
        t += 1
        d *= x  # x (1 - t^2) / 2 * du/dx
        x *= t  # y
        t *= 0.5
        d += t
    return h


def gelu(x, *, approximate="none"):
    if approximate != "tanh":
        return Registry.ops["gelu"]["numpy"][0](x, approximate=approximate)
    y = np.array(x, order="C")
    derivative = np.empty_like(y)
    rows = (-1, x.shape[-1]) if x.ndim else (1, 1)
    gelu_rows(y.reshape(rows), None, derivative.reshape(rows))
    return y, derivative


def gelu_backward(dy, cache):
    if not isinstance(cache, np.ndarray):
        return Registry.ops["gelu"]["numpy"][1](dy, cache)
    return dy * cache


register("gelu", "fast", gelu, gelu_backward)

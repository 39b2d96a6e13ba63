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

    With u = SLOPE (x + CUBIC x^3) and p = (1 + tanh(u)) / 2:
    y = x p and dy/dx = p + y (1 - p) * 2 SLOPE (1 + 3 CUBIC x^2).
    """
    n, width = h.shape
    size = min(n * width, max(PIECE, width))
    square, work = np.empty(size, h.dtype), np.empty(size, h.dtype)
    for piece in pieces(n, width):
        x, d = h[piece], derivative[piece]
        s, p = square[: x.size].reshape(x.shape), work[: x.size].reshape(x.shape)
        if bias is not None:
            x += bias
        np.multiply(x, x, out=s)
        np.multiply(s, SLOPE * CUBIC, out=p)
        p += SLOPE
        p *= x
        np.tanh(p, out=p)
        p *= 0.5
        p += 0.5
        x *= p  # y
        s *= 6 * SLOPE * CUBIC
        s += 2 * SLOPE
        s *= x
        np.subtract(1, p, out=d)
        d *= s
        d += p
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

"""The affine map of the backend "cupy", forward and backward through rung 07 of the matmul ladder.

The three products of `minillm.ops.linear`: y = x @ weight + bias, dx = dy @ weight.T and
dweight = x.T @ dy. The kernel reads a transposed operand as it lies.

float64 goes through the same kernel in the emulator, for the gradient checker. On a GPU it falls
back to the reference pair, whose products CuPy hands to cuBLAS.
"""

import math

import numpy as np

from minillm.ops import linear as op
from minillm.ops._op import check_shape, register, sum_to_shape
from minillm.ops._state import Registry
from minillm_kernels.cuda.matmul import matmul, order_of

__all__ = ["linear", "linear_backward"]


def linear(x, weight, bias=None):
    """Map each row of x from C_in channels to C_out.

    Equation: y = x @ weight + bias

    Parameters
    ----------
    x : (..., C_in)
    weight : (C_in, C_out)
    bias : (C_out,) or None

    Returns
    -------
    y : (..., C_out)

    Raises
    ------
    ValueError
        where the widths do not fit one another.
    """
    if x.dtype == np.float64 and not isinstance(x, np.ndarray):
        y, saved = Registry.ops[op.__name__]["numpy"][0](x, weight, bias)
        return y, (None, saved)
    check_shape("weight", weight, (*x.shape[-1:], None))
    rows, weight = matrix(x), readable(weight)
    if bias is not None:
        check_shape("bias", bias, weight.shape[1:])
        bias = np.ascontiguousarray(bias, like=bias)
    y = matmul(rows, weight, bias=bias)  # (rows of x, C_out)
    return y.reshape(*x.shape[:-1], weight.shape[1]), (x.shape, (rows, weight, bias))


def linear_backward(dy, cache):
    shape, saved = cache
    if shape is None:
        return Registry.ops[op.__name__]["numpy"][1](dy, saved)
    rows, weight, bias = saved
    drows = matrix(dy)
    # forward: y = x @ weight + bias
    dx = matmul(drows, weight.T).reshape(shape)  # (..., C_in)
    dweight = matmul(rows.T, drows)  # (C_in, C_out)
    dbias = None if bias is None else sum_to_shape(dy, bias.shape)  # (C_out,)
    return dx, dweight, dbias


def matrix(array):
    """(..., C) as (rows, C) that the kernel can read: copied only where it must be."""
    return readable(array.reshape(math.prod(array.shape[:-1]), array.shape[-1]))


def readable(array):
    return np.ascontiguousarray(array, like=array) if order_of(array) is None else array


register("linear", "cupy", linear, linear_backward)

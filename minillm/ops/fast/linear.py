"""linear, with all rows in one product and the bias added in place."""

import numpy as np

from minillm.ops._op import check_shape, register


def linear(x, weight, bias=None):
    check_shape("weight", weight, (*x.shape[-1:], None))
    rows = x.reshape(-1, x.shape[-1])  # (N, C_in)
    y = np.matmul(rows, weight)  # (N, C_out)
    if bias is not None:
        check_shape("bias", bias, weight.shape[1:])
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), (rows, weight, bias is not None, x.shape)


def linear_backward(dy, cache):
    rows, weight, has_bias, shape = cache
    drows = dy.reshape(-1, weight.shape[1])  # (N, C_out)
    dx = np.matmul(drows, weight.T).reshape(shape)
    dweight = np.matmul(rows.T, drows)  # (C_in, C_out)
    return dx, dweight, sum_rows(drows) if has_bias else None


def sum_rows(rows):
    """The sum over axis 0; a product with ones runs at BLAS's speed."""
    return np.matmul(np.ones(len(rows), rows.dtype), rows)


register("linear", "fast", linear, linear_backward)

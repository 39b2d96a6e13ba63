"""linear: y = x @ weight + bias, its bias added to the tile before that is stored.

Backward is two products, dx = dy @ weight^T and dweight = x^T @ dy, that read their transposed
factors as they lie, and the sums of dy's columns. Arithmetic: 2 N C_in C_out operations each.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton._factors import check_float, check_shape, factors, rows_of
from minillm_kernels.triton._sums import round_rows
from minillm_kernels.triton.matmul import matmul

__all__ = ["linear", "linear_backward"]


@on_tensors
def linear(x, weight, bias=None):
    """y (..., C_out) of x (..., C_in), weight (C_in, C_out), bias (C_out,) or None."""
    check_float("linear", "x", x)
    check_shape("linear", "weight", weight, (x.shape[-1], None))
    if bias is not None:
        check_shape("linear", "bias", bias, (weight.shape[1],))
    x_rows, w = factors("linear", x, weight)
    x_rows = rows_of(x_rows)
    y = matmul(x_rows, w, bias=bias, out_dtype=x.dtype)
    dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
    return y.view(*x.shape[:-1], y.shape[-1]), (x_rows, w, x.shape, dtypes)


@on_tensors.backward
def linear_backward(dy, saved):
    x_rows, w, shape, (x_dtype, weight_dtype, bias_dtype) = saved
    dy_rows, dbias = round_rows(rows_of(dy), w.dtype, bias_dtype)
    # forward: y = x @ weight + bias
    dx = matmul(dy_rows, w.T, out_dtype=x_dtype).view(shape)
    dweight = matmul(x_rows.T, dy_rows, out_dtype=weight_dtype)
    return dx, dweight, dbias


register("linear", "triton", linear, linear_backward)

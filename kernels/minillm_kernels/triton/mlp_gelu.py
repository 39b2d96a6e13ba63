"""mlp_gelu in two launches forward and seven small and large ones backward.

Forward's first product adds the bias, keeps the sum for backward and applies GELU while the tile is
in registers; backward's first multiplies by GELU's slope and sums the columns for dbias_up. Against
kernels of their own that saves reading and writing (N, F) numbers five times over: at 16384 x 3072
in bf16, 500 MB, 0.15 milliseconds at 3.35 TB/s, beside 0.66 for the six products (464 GFLOP at 700
TFLOP/s).
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton._factors import check_float, check_shape, factors, rows_of
from minillm_kernels.triton.matmul import matmul, sum_over_rows

__all__ = ["mlp_gelu", "mlp_gelu_backward"]


@on_tensors
def mlp_gelu(x, weight_up, bias_up, weight_down, bias_down, *, approximate="tanh"):
    """y (..., C_out) of x (..., C); weights (C, F), (F, C_out); biases (F,), (C_out,) or None."""
    check_float("mlp_gelu", "x", x)
    check_shape("mlp_gelu", "weight_up", weight_up, (x.shape[-1], None))
    check_shape("mlp_gelu", "weight_down", weight_down, (weight_up.shape[1], None))
    if bias_up is not None:
        check_shape("mlp_gelu", "bias_up", bias_up, (weight_up.shape[1],))
    if bias_down is not None:
        check_shape("mlp_gelu", "bias_down", bias_down, (weight_down.shape[1],))
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    x_rows, up, down = factors("mlp_gelu", x, weight_up, weight_down)
    x_rows = rows_of(x_rows)
    active, wide = matmul(x_rows, up, bias=bias_up, epilogue=f"gelu_{approximate}", keep=True)
    y = matmul(active, down, bias=bias_down, out_dtype=x.dtype)
    dtypes = [
        None if t is None else t.dtype for t in (x, weight_up, bias_up, weight_down, bias_down)
    ]
    saved = (x_rows, up, down, wide, active, x.shape, dtypes, approximate)
    return y.view(*x.shape[:-1], y.shape[-1]), saved


@on_tensors.backward
def mlp_gelu_backward(dy, saved):
    x_rows, up, down, wide, active, shape, dtypes, approximate = saved
    x_dtype, up_dtype, bias_up_dtype, down_dtype, bias_down_dtype = dtypes
    dy = rows_of(dy)
    dy_rows = dy.to(down.dtype)
    # forward: y = active @ weight_down + bias_down
    dweight_down = matmul(active.T, dy_rows, out_dtype=down_dtype)
    dbias_down = bias_down_dtype and sum_over_rows(dy, out_dtype=bias_down_dtype)
    # forward: active = gelu(wide)
    slope = {"epilogue": f"dgelu_{approximate}", "other": wide}
    if bias_up_dtype is None:
        dwide, dbias_up = matmul(dy_rows, down.T, **slope), None
    else:
        dwide, sums = matmul(dy_rows, down.T, **slope, sums=True)
        dbias_up = sums.to(bias_up_dtype)
    # forward: wide = x @ weight_up + bias_up
    dweight_up = matmul(x_rows.T, dwide, out_dtype=up_dtype)
    dx = matmul(dwide, up.T, out_dtype=x_dtype).view(shape)
    return dx, dweight_up, dbias_up, dweight_down, dbias_down


register("mlp_gelu", "triton", mlp_gelu, mlp_gelu_backward)

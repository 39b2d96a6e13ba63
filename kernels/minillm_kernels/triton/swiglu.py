"""swiglu: the second wide product is gated while its tile is in registers.

Backward's one pass over (N, F) numbers reads three and writes two, side by side in one array: then
dx is a single product of K = 2 F, whose two halves are added where they are summed anyway.
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.require import interpreted
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._epilogue import sigmoid
from minillm_kernels.triton._factors import check_float, check_shape, factors, rows_of
from minillm_kernels.triton.matmul import matmul
from minillm_kernels.triton.silu import silu_slope

__all__ = [
    "check",
    "configurations",
    "on_rows",
    "on_rows_backward",
    "swiglu",
    "swiglu_backward",
]

BLOCK = 2048


@triton.jit
def gate_backward_kernel(
    dproduct, before, wide, dboth, F, count, SUM: tl.constexpr, BLOCK: tl.constexpr
):
    """dboth = [dproduct silu(before), dproduct wide silu'(before)], rows of 2 F.

    dproduct, before, wide : (N, F), count = N F; dboth : (N, 2 F).
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    upstream = tl.load(dproduct + at, mask=inside, other=0).to(SUM)
    values = tl.load(before + at, mask=inside, other=0).to(SUM)
    factor = tl.load(wide + at, mask=inside, other=0).to(SUM)
    dwide = upstream * (values * sigmoid(values))
    dbefore = upstream * factor * silu_slope(values)
    to = at + (at // F) * F  # row n begins at 2 F n
    tl.store(dboth + to, dwide.to(dboth.dtype.element_ty), mask=inside)
    tl.store(dboth + to + F, dbefore.to(dboth.dtype.element_ty), mask=inside)


@on_tensors
def swiglu(x, weight_gate, weight_up, weight_down):
    """y (..., C_out) of x (..., C); weights (C, F) twice, and (F, C_out)."""
    check(x, weight_gate, weight_up, weight_down)
    x_rows, gate, up, down = factors("swiglu", x, weight_gate, weight_up, weight_down)
    y, saved = on_rows(rows_of(x_rows), gate, up, down, out_dtype=x.dtype)
    dtypes = [t.dtype for t in (x, weight_gate, weight_up, weight_down)]
    return y.view(*x.shape[:-1], y.shape[-1]), (saved, x.shape, dtypes)


@on_tensors.backward
def swiglu_backward(dy, cache):
    saved, shape, dtypes = cache
    dx, *dweights = on_rows_backward(rows_of(dy).to(saved[3].dtype), saved, dtypes)
    return dx.view(shape), *dweights


def check(x, weight_gate, weight_up, weight_down):
    """Refuse what does not fit together."""
    check_float("swiglu", "x", x)
    check_shape("swiglu", "weight_gate", weight_gate, (x.shape[-1], None))
    check_shape("swiglu", "weight_up", weight_up, tuple(weight_gate.shape))
    check_shape("swiglu", "weight_down", weight_down, (weight_up.shape[1], None))


def on_rows(x, gate, up, down, **last):
    """The op on rows x (N, C) and weights of one dtype; `last` is for the third product.

    Returns
    -------
    y : (N, C_out)
    saved : what `on_rows_backward` takes
    """
    before = matmul(x, gate)
    product, wide = matmul(x, up, epilogue="swiglu", other=before, keep=True)
    return matmul(product, down, **last), (x, gate, up, down, before, wide, product)


def on_rows_backward(dy, saved, dtypes):
    """The gradients of x and the weights, in these dtypes; dy (N, C_out), of the weights' dtype."""
    x, gate, up, down, before, wide, product = saved
    x_dtype, gate_dtype, up_dtype, down_dtype = dtypes
    # forward: y = product @ down
    ddown = matmul(product.T, dy, out_dtype=down_dtype)
    dproduct = matmul(dy, down.T)
    # forward: product = silu(before) * wide
    n, f = wide.shape
    dboth = torch.empty((n, 2 * f), dtype=wide.dtype, device=wide.device)
    if wide.numel():
        block = 1 << 16 if interpreted() else BLOCK
        sums = tl.float64 if wide.dtype == torch.float64 else tl.float32
        gate_backward_kernel[(triton.cdiv(n * f, block),)](
            dproduct, before, wide, dboth, f, n * f, SUM=sums, BLOCK=block
        )
    # forward: before = x @ gate, wide = x @ up
    dup = matmul(x.T, dboth[:, :f], out_dtype=up_dtype)
    dgate = matmul(x.T, dboth[:, f:], out_dtype=gate_dtype)
    dx = matmul(dboth, torch.cat([up, gate], 1).T, out_dtype=x_dtype)
    return dx, dgate, dup, ddown


register("swiglu", "triton", swiglu, swiglu_backward)


def configurations():
    for dtype, arches in (("fp16", (75,)), ("bf16", (80, 90)), ("fp32", (90,))):
        arrays = ("dproduct", "before", "wide", "dboth")
        types = dict.fromkeys(arrays, f"*{dtype}") | {"F": "i32:16", "count": "i32:16"}
        yield Configuration(
            f"gate_backward {dtype}", gate_backward_kernel, types,
            {"SUM": tl.float32, "BLOCK": BLOCK},
            arches=arches,
        )  # fmt: skip

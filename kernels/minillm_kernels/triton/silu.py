"""silu, one pass: forward reads x and writes y, backward reads dy and x and writes dx.

4 and 6 bytes a number in half precision, and one exponential: memory sets the time.

Share of the copy bandwidth on an H100: not yet measured
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton._epilogue import sigmoid
from minillm_kernels.triton._factors import check_float
from minillm_kernels.triton.gelu import over_numbers, pointwise_configurations

__all__ = ["configurations", "silu", "silu_backward", "silu_slope"]


@triton.jit
def silu_slope(x):
    """d (x sigmoid(x)) / dx = s + x s (1 - s), s = sigmoid(x)."""
    gate = sigmoid(x)
    return gate + x * (gate * (1 - gate))


@triton.jit
def silu_forward_kernel(x, y, count, SUM: tl.constexpr, BLOCK: tl.constexpr):
    """y = x sigmoid(x), `count` numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count, other=0).to(SUM)
    tl.store(y + at, (values * sigmoid(values)).to(y.dtype.element_ty), mask=at < count)


@triton.jit
def silu_backward_kernel(dy, x, dx, count, SUM: tl.constexpr, BLOCK: tl.constexpr):
    """dx = dy silu'(x), `count` numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count, other=0).to(SUM)
    upstream = tl.load(dy + at, mask=at < count, other=0).to(SUM)
    tl.store(dx + at, (upstream * silu_slope(values)).to(dx.dtype.element_ty), mask=at < count)


@on_tensors
def silu(x):
    """y (...) of x (...)."""
    check_float("silu", "x", x)
    x = x.contiguous()
    y = torch.empty_like(x)
    over_numbers(silu_forward_kernel, x, y)
    return y, (x,)


@on_tensors.backward
def silu_backward(dy, saved):
    (x,) = saved
    dx = torch.empty_like(x)
    over_numbers(silu_backward_kernel, dy.contiguous(), x, dx)
    return dx


register("silu", "triton", silu, silu_backward)


def configurations():
    yield from pointwise_configurations(silu_forward_kernel, ("x", "y"))
    yield from pointwise_configurations(silu_backward_kernel, ("dy", "x", "dx"))

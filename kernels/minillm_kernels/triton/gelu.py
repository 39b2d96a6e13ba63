"""gelu, both forms, one pass: forward reads x and writes y, backward reads dy and x and writes dx.

Backward computes the slope from x anew, since reading a saved one would cost more than its
arithmetic: 4 and 6 bytes a number in half precision, against some 20 operations. So the floor is
memory: at 16384 x 3072 in bf16, 201 MB forward and 302 MB backward.

Share of the copy bandwidth on an H100: not yet measured
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.require import interpreted
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._epilogue import gelu_slope, gelu_value
from minillm_kernels.triton._factors import check_float

__all__ = ["configurations", "gelu", "gelu_backward"]

BLOCK = 2048  # numbers a block: 16 a thread, two loads of 16 bytes in half precision
BLOCK_INTERPRETED = 1 << 16  # a block costs the same there, whatever its size


@triton.jit
def gelu_forward_kernel(x, y, count, TANH: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr):
    """y = gelu(x), `count` numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count, other=0).to(SUM)
    tl.store(y + at, gelu_value(values, TANH).to(y.dtype.element_ty), mask=at < count)


@triton.jit
def gelu_backward_kernel(
    dy, x, dx, count, TANH: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr
):
    """dx = dy gelu'(x), `count` numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count, other=0).to(SUM)
    slopes = gelu_slope(values, TANH)
    upstream = tl.load(dy + at, mask=at < count, other=0).to(SUM)
    tl.store(dx + at, (upstream * slopes).to(dx.dtype.element_ty), mask=at < count)


def over_numbers(kernel, *arrays, **constants):
    """Launch a kernel over all numbers of arrays in rows, of one size."""
    count = arrays[-1].numel()
    if count == 0:
        return
    block = BLOCK_INTERPRETED if interpreted() else BLOCK
    sums = tl.float64 if arrays[0].dtype == torch.float64 else tl.float32
    kernel[(triton.cdiv(count, block),)](*arrays, count, **constants, SUM=sums, BLOCK=block)


@on_tensors
def gelu(x, *, approximate="none"):
    """y (...) of x (...)."""
    check_float("gelu", "x", x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    x = x.contiguous()
    y = torch.empty_like(x)
    over_numbers(gelu_forward_kernel, x, y, TANH=approximate == "tanh")
    return y, (x, approximate)


@on_tensors.backward
def gelu_backward(dy, saved):
    x, approximate = saved
    dx = torch.empty_like(x)
    over_numbers(gelu_backward_kernel, dy.contiguous(), x, dx, TANH=approximate == "tanh")
    return dx


register("gelu", "triton", gelu, gelu_backward)


def pointwise_configurations(kernel, arrays, name="", **constants):
    """A kernel of `over_numbers` in each dtype that it is launched with, on one GPU or two."""
    for dtype, arches in (("fp16", (75,)), ("bf16", (80, 90)), ("fp32", (90,))):
        types = dict.fromkeys(arrays, f"*{dtype}") | {"count": "i32:16"}
        yield Configuration(
            f"{kernel.__name__} {name} {dtype}".replace("  ", " "), kernel, types,
            constants | {"SUM": tl.float32, "BLOCK": BLOCK},
            arches=arches, expects=("vector loads",),
        )  # fmt: skip


def configurations():
    for tanh in (True, False):
        name = "tanh" if tanh else "erf"
        yield from pointwise_configurations(gelu_forward_kernel, ("x", "y"), name, TANH=tanh)
        yield from pointwise_configurations(
            gelu_backward_kernel, ("dy", "x", "dx"), name, TANH=tanh
        )

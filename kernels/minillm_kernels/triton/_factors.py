"""The factors of an op's products: their dtype under the precision in force, and their shapes."""

from types import SimpleNamespace

import torch

from minillm.ops import _op
from minillm_kernels import precision
from minillm_kernels.arrays import check_place
from minillm_kernels.triton import _device as device

__all__ = ["FLOATS", "check_float", "check_shape", "factors", "rows_of"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_shape(op_name, name, tensor, expected):
    """Refuse a tensor whose shape is not `expected`, None standing for any length, or whose dtype
    or place no kernel reads.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    check_float(op_name, name, tensor)
    _op.check_shape(f"{op_name}: {name}", SimpleNamespace(shape=tuple(tensor.shape)), expected)


def check_float(op_name, name, tensor):
    """Refuse a tensor that is not of floating point, or lies where the kernels do not run."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in FLOATS:
        came = getattr(tensor, "dtype", type(tensor).__name__)
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
        raise ValueError(f"{op_name}: {name} must be a tensor of {known}, got {came}")
    check_place(op_name, name, tensor)
    if tensor.dtype == torch.bfloat16 and device.arch() == 75:
        raise ValueError(
            f"{op_name}: {name} is bfloat16, which needs a GPU of compute capability 8.0: "
            "use float16 or float32"
        )


def factors(op_name, x, *others):
    """x and the others in the dtype that their products are computed from.

    That is x's own, and bfloat16 for float32 numbers under precision("bf16"). Weights in float32
    beside an x of half precision are rounded to x's dtype.

    Raises
    ------
    ValueError
        for other mixtures of dtypes, and for bfloat16 on a GPU that has none.
    """
    for other in others:
        master = x.dtype in (torch.float16, torch.bfloat16) and other.dtype == torch.float32
        if other.dtype != x.dtype and not master:
            raise ValueError(f"{op_name}: x is {x.dtype} but a weight is {other.dtype}")
    dtype = x.dtype
    if dtype == torch.float32 and precision.current() == "bf16":
        if device.arch() == 75:
            raise ValueError(
                f'{op_name}: precision "bf16" needs a GPU of compute capability 8.0 or more'
            )
        dtype = torch.bfloat16
    return [tensor.to(dtype) for tensor in (x, *others)]


def rows_of(x):
    """x (..., C) as (N, C), N the product of the other lengths, zero included."""
    n = 1
    for length in x.shape[:-1]:
        n *= length
    return x.reshape(n, x.shape[-1])

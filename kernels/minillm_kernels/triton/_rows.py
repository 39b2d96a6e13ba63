"""What the kernels that go over rows share: checks, block sizes, and the sum of partial results.

A row is the last axis. A kernel holds whole rows in registers while they fit, and goes over longer
ones in blocks.
"""

import torch
import triton
import triton.language as tl

from minillm_kernels.arrays import check_grid, interpreted
from minillm_kernels.triton._device import arch

__all__ = [
    "FLOATS",
    "accumulator",
    "as_rows",
    "check_integers",
    "check_same",
    "check_shape",
    "check_type",
    "column_sums",
    "power_of_two",
    "processors",
    "signed",
    "sum_columns",
]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def accumulator(dtype):
    """The type that a kernel computes in: float64 for float64, else float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def power_of_two(n):
    """The least power of two that is not below n: the sizes that `tl.arange` knows."""
    return 1 << max(0, n - 1).bit_length()


def processors(tensor):
    """Multiprocessors of the tensor's GPU; a few where the kernels are interpreted."""
    if interpreted():
        return 2
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def as_rows(tensor):
    """(..., C) as a contiguous (N, C), copied only where the memory is laid out otherwise."""
    width = tensor.shape[-1]
    return tensor.contiguous().view(tensor.numel() // width if width else 0, width)


def check_type(op_name, **tensors):
    """Refuse a tensor that is not of one of the FLOATS, or that this GPU has no arithmetic for.

    Raises
    ------
    ValueError
        naming the argument and what came.
    """
    for name, tensor in tensors.items():
        dtype = getattr(tensor, "dtype", type(tensor).__name__)
        if dtype not in FLOATS:
            known = ", ".join(str(known).removeprefix("torch.") for known in FLOATS)
            raise ValueError(f"{op_name}: {name} must be one of {known}, got {dtype}")
        if dtype == torch.bfloat16 and tensor.is_cuda and arch() == 75:
            raise ValueError(
                f"{op_name}: {name} is bfloat16, which needs a GPU of compute capability 8.0: "
                "use float16 or float32"
            )


def check_shape(op_name, name, tensor, shape):
    """Refuse a tensor whose shape is not `shape`; None there stands for any length."""
    came = tuple(tensor.shape)
    if len(came) != len(shape) or any(
        e is not None and s != e for s, e in zip(came, shape, strict=True)
    ):
        wanted = ", ".join("any" if e is None else str(e) for e in shape)
        wanted = f"({wanted},)" if len(shape) == 1 else f"({wanted})"
        raise ValueError(f"{op_name}: {name} must have shape {wanted}, got {came}")


def check_same(op_name, first, **others):
    """Refuse a tensor whose dtype is not that of `first`, a pair (name, tensor)."""
    for name, tensor in others.items():
        if tensor.dtype != first[1].dtype:
            raise ValueError(
                f"{op_name}: {name} must be {first[1].dtype} as {first[0]} is, got {tensor.dtype}"
            )


def check_integers(op_name, name, tensor):
    """Refuse an argument that is no tensor of integers."""
    dtype = getattr(tensor, "dtype", type(tensor).__name__)
    if not isinstance(dtype, torch.dtype) or dtype.is_floating_point or dtype == torch.bool:
        raise ValueError(f"{op_name}: {name} must be an array of integers, got {dtype}")


def signed(integers):
    """Integers as int64, where they are not int32 or int64: -1 and -100 are no bytes."""
    return integers if integers.dtype in (torch.int32, torch.int64) else integers.long()


@triton.jit
def sum_columns(
    parts, out, n_parts, n_columns, ACC: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """out[k, c] = sum over p of parts[k, p, c]; k is the grid's second axis."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    which = tl.program_id(1).to(tl.int64)
    rows = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, COLUMNS), ACC)
    for start in tl.range(0, n_parts, ROWS):
        inside = (start + rows < n_parts)[:, None] & (columns < n_columns)[None, :]
        at = (which * n_parts + start + rows)[:, None] * n_columns + columns[None, :]
        total += tl.load(parts + at, mask=inside, other=0).to(ACC)
    summed = tl.sum(total, 0)
    tl.store(out + which * n_columns + columns, summed, mask=columns < n_columns)


SUM_ROWS, SUM_COLUMNS = 64, 32  # a warp reads 128 bytes of a row of float32, and 16 lie in a thread


def column_sums(parts, dtype):
    """Add partial sums up, always in the same order.

    Parameters
    ----------
    parts : (k, P, C) float32 or float64
    dtype : of the result

    Returns
    -------
    sums : (k, C)
    """
    k, n_parts, n_columns = parts.shape
    out = torch.empty((k, n_columns), dtype=dtype, device=parts.device)
    columns = min(power_of_two(n_columns), 2048) if interpreted() else SUM_COLUMNS
    grid = (triton.cdiv(n_columns, columns), k)
    check_grid("column_sums", grid)
    if out.numel():
        sum_columns[grid](
            parts,
            out,
            n_parts,
            n_columns,
            ACC=accumulator(parts.dtype),
            ROWS=SUM_ROWS,
            COLUMNS=columns,
        )
    return out

"""Sums over the rows of a matrix: biases' gradients, and the parts of a product.

The order is the same in every run. Bytes: each number once in, 4 for a float32; where products want
it in bfloat16 the same pass writes that, 2 more, in place of reading it a second time.
"""

import torch
import triton
import triton.language as tl

from minillm_kernels.arrays import check_grid
from minillm_kernels.triton import _device as device

__all__ = ["TL", "round_rows", "sum_over_rows", "sum_rows"]

TL = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


@triton.jit
def sum_rows(
    x, out, rounded, rows, columns, stride, per_block, ADD: tl.constexpr, ROUNDED: tl.constexpr,
    SUM: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """out[i] = the sum of x's rows [i per_block, (i + 1) per_block), i the block along axis 1.

    x : (rows, columns), rows `stride` apart; out : (blocks, columns); with ADD added to out.
    ROUNDED also writes x in the dtype of `rounded`, (rows, columns) in one piece.
    """
    column = tl.program_id(0).to(tl.int64) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = column < columns
    first = tl.program_id(1) * per_block
    last = tl.minimum(first + per_block, rows)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), SUM)
    for start in tl.range(first, last, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        at = row[:, None].to(tl.int64) * stride + column[None, :]
        here = (row < last)[:, None] & inside[None, :]
        values = tl.load(x + at, mask=here, other=0).to(SUM)
        total += values
        if ROUNDED:
            to = row[:, None].to(tl.int64) * columns + column[None, :]
            tl.store(rounded + to, values.to(rounded.dtype.element_ty), mask=here)
    result = tl.sum(total, 0)
    at = out + tl.program_id(1).to(tl.int64) * columns + column
    if ADD:
        result += tl.load(at, mask=inside, other=0).to(SUM)
    tl.store(at, result.to(out.dtype.element_ty), mask=inside)


def sum_over_rows(x, *, out=None, out_dtype=None, add=False, rounded=None):
    """The sums of the columns of x (R, C): (C,), always in the same order; `add` adds to `out`.

    `rounded`, (R, C) in rows, is given x in its own dtype by the same pass.
    """
    rows, columns = x.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    sum_dtype = device.sum_type(x.dtype)
    if out is None:
        out = torch.empty(columns, dtype=out_dtype or x.dtype, device=x.device)
    if columns == 0:
        return out
    across = triton.cdiv(columns, 128)
    # Enough blocks to fill the chip several times over, of 64 rows at least.
    blocks = max(1, min(triton.cdiv(rows, 64), 8 * device.multiprocessors() // across))
    per_block = triton.cdiv(max(rows, 1), blocks)
    parts = out
    if blocks > 1:
        parts = torch.empty((blocks, columns), dtype=sum_dtype, device=x.device)
    sizes = {"SUM": TL[sum_dtype], "BLOCK_ROWS": 32, "BLOCK_COLUMNS": 128}
    check_grid("sum_over_rows", (across, blocks))
    sum_rows[(across, blocks)](
        x, parts, rounded, rows, columns, x.stride(0), per_block, ADD=add and blocks == 1,
        ROUNDED=rounded is not None, **sizes,
    )  # fmt: skip
    if blocks > 1:
        sum_rows[(across, 1)](
            parts, out, None, blocks, columns, columns, blocks, ADD=add, ROUNDED=False, **sizes
        )
    return out


def round_rows(x, dtype, sums_dtype=None):
    """x (R, C) in another dtype, and its columns' sums (C,) in `sums_dtype`: x is read once.

    A bias's gradient is summed from what came, not from what it was rounded to; None: no sums.
    """
    if sums_dtype is None:
        return x.to(dtype), None
    if x.dtype == dtype:
        return x, sum_over_rows(x, out_dtype=sums_dtype)
    rounded = torch.empty(x.shape, dtype=dtype, device=x.device)
    return rounded, sum_over_rows(x, out_dtype=sums_dtype, rounded=rounded)

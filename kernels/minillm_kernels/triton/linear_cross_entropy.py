"""linear_cross_entropy without the (N, V) logits: a piece of rows at a time, its gradient in place.

Once a piece's logits are there, so is all that its gradient needs, and the loss is a mean: so
forward computes both (as Wijmans et al. 2024, arXiv:2411.09009, note of earlier work, and Hsu et
al. 2024, arXiv:2410.10989, section 3.2, do). For each piece of R rows:

    piece    = x[rows] @ weight^T + bias                (R, V)
    loss     of each row, and in place: piece = softmax(piece) - wanted, 0 where a row is ignored
    dx[rows] = piece @ weight
    dweight += piece^T @ x[rows]                        in float32

Backward multiplies by dloss / count, which keeps half precision clear of numbers as small as
1 / N, and leaves what was saved as it is.

Arithmetic at N = 16384, C = 768, V = 50304: three products of 2 N C V = 1.27 TFLOP, 5.4 ms at 700
TFLOP/s. Computing logits a second time instead of keeping a piece would be a fourth, 1.8 ms. Bytes
of a bf16 logit that are waited for: 2 to read and 2 to write in place, 3.3 GB, 1.0 ms at 3.35 TB/s
(the three products' own reads and writes are hidden behind them); logits kept whole, the row's sum
and its gradient in two kernels, cost 2 bytes more and 1.65 GB of memory. dweight, 155 MB, is read
and written again for every further piece: with R = 4096 there are 4 pieces of 412 MB.

Share of torch.compile's time on an H100: not yet measured
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import check_grid, on_tensors
from minillm_kernels.triton import _device as device
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._factors import check_float, check_shape, factors, rows_of
from minillm_kernels.triton._rows import check_integers, signed
from minillm_kernels.triton._sums import sum_over_rows
from minillm_kernels.triton._tune import Choice, autotune
from minillm_kernels.triton.matmul import matmul

__all__ = ["configurations", "linear_cross_entropy", "linear_cross_entropy_backward"]

PIECE_BYTES = 2**29  # of one piece; half a GB holds 5336 rows of 50304 logits in bf16
# Logits of a row that a block takes at a time, and its warps. Few blocks of many warps keep the
# rows that are in flight, 100 KB each, within the 50 MB of the L2 cache.
BLOCKS = ((4096, 16), (8192, 32))


@autotune(
    [Choice({"BLOCK": block}, warps) for block, warps in BLOCKS],
    key=["V"],
    restore=["piece"],
)
@triton.jit
def loss_and_gradient_kernel(
    piece, targets, losses, V, stride, ignore_index,
    SMOOTHING: tl.constexpr, SHARE: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A row of logits a block: its loss, and in the logits' place softmax(logits) - wanted.

    piece : (R, V) in rows of `stride` numbers, of which those from V on are anybody's; targets,
    losses : (R,); SHARE = SMOOTHING / V. A target out of range makes the loss nan. The first pass
    is the online sum of exponentials (Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3),
    with a maximum and a sum for each column of the block: of exp(top - new) and exp(logit - new)
    one is 1, so that a logit costs one exponential. The second pass finds the row in the L2 cache.
    """
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    counted = target != ignore_index
    at = piece + row * stride
    known = tl.where(counted, target, 0)
    there = (known >= 0) & (known < V)
    at_target = tl.load(at + known, mask=there, other=float("nan")).to(SUM)
    columns = tl.arange(0, BLOCK)
    top = tl.full((BLOCK,), -3e38, SUM)  # finite, for inf - inf is nan
    total = tl.zeros((BLOCK,), SUM)
    plain = tl.zeros((BLOCK,), SUM)
    for start in tl.range(0, V, BLOCK):
        # Masked by the rows' length, a multiple of 64, so that loads stay 16 bytes wide.
        logits = tl.load(at + start + columns, mask=start + columns < stride, other=0).to(SUM)
        inside = start + columns < V
        plain += tl.where(inside, logits, 0)
        logits = tl.where(inside, logits, float("-inf"))
        other = tl.exp(-tl.abs(top - logits))
        total = tl.where(logits > top, total * other + 1, total + other)
        top = tl.maximum(top, logits)
    highest = tl.max(top, 0)
    log_sum = highest + tl.log(tl.sum(total * tl.exp(top - highest), 0))
    # -sum_v q_v log p_v, q = (1 - s) [v = target] + s / V
    loss = log_sum - (1 - SMOOTHING) * at_target
    if SMOOTHING > 0:  # 0 times a logit of -inf is nan
        loss -= SHARE * tl.sum(plain, 0)
    tl.store(losses + row, tl.where(counted, loss, 0))
    tl.debug_barrier()  # the target's logit is read by all threads, and overwritten by one
    for start in tl.range(0, V, BLOCK):
        allocated = start + columns < stride
        logits = tl.load(at + start + columns, mask=allocated, other=0).to(SUM)
        logits = tl.where(start + columns < V, logits, float("-inf"))
        wanted = (start + columns == known).to(SUM) * (1 - SMOOTHING) + SHARE
        gradient = tl.where(counted, tl.exp(logits - log_sum) - wanted, 0)
        tl.store(at + start + columns, gradient.to(piece.dtype.element_ty), mask=allocated)


@on_tensors
def linear_cross_entropy(x, weight, bias=None, *, targets, ignore_index=-100, label_smoothing=0.0):
    """loss, a scalar, of x (..., C), weight (V, C), bias (V,) or None, targets (...)."""
    op_name = "linear_cross_entropy"
    check_float(op_name, "x", x)
    check_shape(op_name, "weight", weight, (None, x.shape[-1]))
    if bias is not None:
        check_shape(op_name, "bias", bias, (weight.shape[0],))
    check_targets(op_name, targets, x.shape[:-1], label_smoothing)
    x_rows, w = factors(op_name, x, weight)
    x_rows, targets = rows_of(x_rows), signed(targets).to(x.device).contiguous().view(-1)
    (n, c), v = x_rows.shape, w.shape[0]
    sums = device.sum_type(w.dtype)
    dx = torch.empty((n, c), dtype=w.dtype, device=x.device)  # read once, to be scaled
    new = torch.empty if n else torch.zeros
    dweight = new((v, c), dtype=sums, device=x.device)
    dbias = None if bias is None else new(v, dtype=sums, device=x.device)
    losses = torch.empty(n, dtype=sums, device=x.device)
    height = piece_rows(n, v, w.element_size())
    width = triton.cdiv(v, 64) * 64  # rows on multiples of 16 bytes, whatever V is
    whole = torch.empty((height, width), dtype=w.dtype, device=x.device)[:, :v]
    for first in range(0, n, height):
        here = slice(first, min(first + height, n))
        piece = whole[: here.stop - first]
        matmul(x_rows[here], w.T, bias=bias, out=piece)
        replace_by_gradient(piece, targets[here], losses[here], ignore_index, label_smoothing)
        matmul(piece, w, out=dx[here])
        matmul(piece.T, x_rows[here], out=dweight, add=first > 0)
        if dbias is not None:
            sum_over_rows(piece, out=dbias, add=first > 0)
    count = (targets != ignore_index).sum().clamp(min=1).to(sums)
    # Where nothing counts, losses is all 0 (an empty one sums to 0 too).
    loss = (losses.sum() / count).to(x.dtype)
    dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
    return loss, (dx, dweight, dbias, count, x.shape, dtypes)


@on_tensors.backward
def linear_cross_entropy_backward(dloss, saved):
    dx, dweight, dbias, count, shape, (x_dtype, weight_dtype, bias_dtype) = saved
    # forward: loss = losses.sum() / count
    scale = dloss.to(count.dtype) / count
    dx, dweight = scaled(dx, scale, x_dtype).view(shape), scaled(dweight, scale, weight_dtype)
    return dx, dweight, None if dbias is None else scaled(dbias, scale, bias_dtype)


def scaled(x, scale, dtype):
    """x * scale in another dtype, in one pass."""
    return torch.mul(x, scale, out=torch.empty_like(x, dtype=dtype))


def replace_by_gradient(piece, targets, losses, ignore_index, label_smoothing):
    """Write each row's loss to `losses`, and its gradient over its logits in `piece`."""
    rows, v = piece.shape
    check_grid("linear_cross_entropy", (rows,))
    loss_and_gradient_kernel[(rows,)](
        piece, targets, losses, v, piece.stride(0), ignore_index,
        SMOOTHING=float(label_smoothing), SHARE=label_smoothing / max(v, 1),
        SUM=tl.float64 if losses.dtype == torch.float64 else tl.float32,
    )  # fmt: skip


def piece_rows(n, v, itemsize):
    """How many rows have their logits at one time: even pieces of at most PIECE_BYTES, in whole
    tiles of 128 rows."""
    most = max(1, PIECE_BYTES // (v * itemsize) // 128) * 128
    pieces = max(1, triton.cdiv(n, most))
    even = triton.cdiv(max(n, 1), pieces)
    return min(triton.cdiv(even, 128) * 128, max(n, 1))


def check_targets(op_name, targets, shape, label_smoothing):
    """Refuse targets of another shape or no integers, and smoothing outside [0, 1]."""
    check_integers(op_name, "targets", targets)
    if targets.shape != shape:
        raise ValueError(
            f"{op_name}: targets must have shape {tuple(shape)}, got {tuple(targets.shape)}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")


register("linear_cross_entropy", "triton", linear_cross_entropy, linear_cross_entropy_backward)


def configurations():
    for dtype in ("fp32", "fp16", "bf16"):
        types = {"piece": f"*{dtype}", "targets": "*i64", "losses": "*fp32", "V": "i32:16"}
        types |= {"stride": "i32:16", "ignore_index": "i32"}
        constants = {"SMOOTHING": 0.0, "SHARE": 0.0, "SUM": tl.float32}
        choices = loss_and_gradient_kernel.choices
        for choice in choices if dtype == "bf16" else choices[:1]:
            yield Configuration(
                f"{dtype} {choice.name}", loss_and_gradient_kernel, types,
                constants | choice.constants, choice.num_warps, choice.num_stages,
                (80, 90) if dtype == "bf16" else (75, 80, 90), expects=("vector loads",),
            )  # fmt: skip

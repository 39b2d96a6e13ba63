"""The normalised exponential (Bridle 1990, in Neurocomputing, NATO ASI F68, pp. 227 to 236) and its
logarithm in Triton; longer rows by the online form (Milakov & Gimelshein 2018, arXiv:1805.02867).

Elements that must move, for N rows of C: forward reads N C and writes N C, backward reads 2 N C and
writes N C. Rows that fit registers are read once; longer ones twice, by one pass that carries the
largest score and the sum of exponentials in each lane, and one that writes.

LOG gives log_softmax, whose op is in log_softmax.py.
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import check_grid, on_tensors
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._rows import accumulator, as_rows, check_same, check_type, power_of_two
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["backward", "compiled", "forward", "softmax", "softmax_backward"]

ROW_COLUMNS = 16384  # the widest rows that are held in registers, 32 values a thread
LOOP_COLUMNS, LOOP_WARPS = 4096, 8


def _choices(pairs):
    """TILE elements a program: several short rows, or one that is not longer than that."""

    def choice(tile, warps):
        def fits(arguments, arch):
            return arguments["COLUMNS"] <= tile

        return Choice({"TILE": tile}, num_warps=warps, fits=fits)

    return [choice(*pair) for pair in pairs]


CHOICES = _choices([(4096, 8), (4096, 4), (2048, 4), (1024, 2), (1024, 1), (8192, 8), (16384, 16)])


@triton.jit
def shift(largest):
    """What to subtract from a row's scores: the largest, and nothing where all are -inf."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@autotune(CHOICES, key=["n_columns"])
@triton.jit
def softmax_forward(
    x,
    y,
    n_rows,
    n_columns,
    LOG: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):
    """A tile of whole rows in registers."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    scores = tl.load(x + at, mask=inside, other=float("-inf")).to(ACC)
    shifted = scores - shift(tl.max(scores, 1))[:, None]
    weights = tl.exp(shifted)
    # The largest has weight 1, so the sum is below 1 in a row of -inf alone.
    total = tl.maximum(tl.sum(weights, 1), 1.0)
    out = shifted - tl.log(total)[:, None] if LOG else weights / total[:, None]
    tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def softmax_forward_loop(
    x, y, n_columns, LOG: tl.constexpr, ACC: tl.constexpr, COLUMNS: tl.constexpr
):
    """One row in blocks, twice. Each lane carries its own largest score and sum."""
    first = tl.program_id(0).to(tl.int64) * n_columns
    columns = tl.arange(0, COLUMNS)
    largest = tl.full((COLUMNS,), float("-inf"), ACC)
    total = tl.zeros((COLUMNS,), ACC)
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        scores = tl.load(x + first + start + columns, mask=inside, other=float("-inf")).to(ACC)
        larger = tl.maximum(largest, scores)
        off = shift(larger)
        total = total * tl.exp(largest - off) + tl.exp(scores - off)
        largest = larger
    off = shift(tl.max(largest, 0))
    row_total = tl.maximum(tl.sum(total * tl.exp(largest - off), 0), 1.0)
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        scores = tl.load(x + first + start + columns, mask=inside, other=float("-inf")).to(ACC)
        shifted = scores - off
        out = shifted - tl.log(row_total) if LOG else tl.exp(shifted) / row_total
        tl.store(y + first + start + columns, out.to(y.dtype.element_ty), mask=inside)


@autotune(CHOICES, key=["n_columns"])
@triton.jit
def softmax_rows_backward(
    dy,
    y,
    dx,
    n_rows,
    n_columns,
    LOG: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):
    """A tile of whole rows in registers."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    upstream = tl.load(dy + at, mask=inside, other=0).to(ACC)
    value = tl.load(y + at, mask=inside, other=0).to(ACC)
    if LOG:
        # forward: y_i = x_i - log sum_j exp(x_j); the logarithm's slope in x_j is exp(y_j)
        out = upstream - tl.exp(value) * tl.sum(upstream, 1)[:, None]
    else:
        # forward: y_i = exp(x_i) / sum_j exp(x_j)
        out = value * (upstream - tl.sum(upstream * value, 1)[:, None])
    tl.store(dx + at, out.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def softmax_backward_loop(
    dy, y, dx, n_columns, LOG: tl.constexpr, ACC: tl.constexpr, COLUMNS: tl.constexpr
):
    """One row in blocks, twice: the sum, then the result."""
    first = tl.program_id(0).to(tl.int64) * n_columns
    columns = tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), ACC)
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        upstream = tl.load(dy + first + start + columns, mask=inside, other=0).to(ACC)
        if LOG:
            total += upstream
        else:
            total += upstream * tl.load(y + first + start + columns, mask=inside, other=0).to(ACC)
    row_total = tl.sum(total, 0)
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        upstream = tl.load(dy + first + start + columns, mask=inside, other=0).to(ACC)
        value = tl.load(y + first + start + columns, mask=inside, other=0).to(ACC)
        out = upstream - tl.exp(value) * row_total if LOG else value * (upstream - row_total)
        tl.store(dx + first + start + columns, out.to(dx.dtype.element_ty), mask=inside)


def forward(op_name, x, axis, log):
    """Softmax or, with `log`, its logarithm, along any axis.

    Returns
    -------
    y : as x
    saved : what `backward` takes
    """
    check_type(op_name, x=x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{op_name}: axis must be one of x's {x.ndim}, got {axis}")
    rows = as_rows(x.movedim(axis, -1))  # (N, C); another axis than the last costs a copy
    y = torch.empty_like(rows)
    _launch(op_name, (softmax_forward, softmax_forward_loop), {"x": rows, "y": y}, rows, log)
    return _back(y, x.shape, axis), (y, axis)


def backward(op_name, dy, saved, log):
    """The gradient of `forward`, shaped as dy."""
    y, axis = saved
    check_same(op_name, ("y", y), dy=dy)
    rows = as_rows(dy.movedim(axis, -1))
    dx = torch.empty_like(rows)
    arrays = {"dy": rows, "y": y, "dx": dx}
    _launch(op_name, (softmax_rows_backward, softmax_backward_loop), arrays, rows, log)
    return _back(dx, dy.shape, axis)


def _launch(op_name, kernels, arrays, rows, log):
    (n_rows, n_columns), (in_registers, in_blocks) = rows.shape, kernels
    if rows.numel() == 0:
        return
    check_grid(op_name, (n_rows,))
    columns, flags = power_of_two(n_columns), {"LOG": log, "ACC": accumulator(rows.dtype)}
    if columns > ROW_COLUMNS:
        in_blocks[(n_rows,)](
            **arrays, n_columns=n_columns, COLUMNS=LOOP_COLUMNS, num_warps=LOOP_WARPS, **flags
        )
        return

    def grid(arguments):
        return (triton.cdiv(n_rows, max(1, arguments["TILE"] // columns)),)

    in_registers[grid](**arrays, n_rows=n_rows, n_columns=n_columns, COLUMNS=columns, **flags)


def _back(rows, shape, axis):
    """(N, C) in the shape that it came from, its last axis moved back."""
    moved = list(shape)
    moved.append(moved.pop(axis))
    return rows.view(moved).movedim(-1, axis).contiguous()


@on_tensors
def softmax(x, *, axis=-1):
    """Turn scores into probabilities along an axis; a row of nothing but -inf gives zeros.

    Parameters
    ----------
    x : (...) float16, bfloat16, float32 or float64
    axis : int

    Returns
    -------
    y : (...)
    """
    return forward("softmax", x, axis, False)


@on_tensors.backward
def softmax_backward(dy, cache):
    return backward("softmax_backward", dy, cache, False)


def compiled(log):
    """The configurations of softmax or of its logarithm: rows in registers, and long ones."""
    found = []
    for kind, arches in (("fp16", (75,)), ("bf16", (80, 90))):
        flags = {"LOG": log, "ACC": tl.float32}
        data = f"*{kind}"
        for kernel, loop, names in (
            (softmax_forward, softmax_forward_loop, ("x", "y")),
            (softmax_rows_backward, softmax_backward_loop, ("dy", "y", "dx")),
        ):
            types = dict.fromkeys(names, data) | {"n_columns": "i32:16"}
            for one, sizes, constants, warps in (
                (kernel, {"n_rows": "i32"}, {"COLUMNS": 1024} | kernel.choices[0].constants, 8),
                (loop, {}, {"COLUMNS": LOOP_COLUMNS}, LOOP_WARPS),
            ):
                found.append(
                    Configuration(
                        f"{one.__name__} {kind}",
                        one,
                        types | sizes,
                        flags | constants,
                        warps,
                        arches=arches,
                        expects=("vector loads",),
                    )
                )
    return found


def configurations():
    """What the launchers compile."""
    return compiled(False)


register("softmax", "triton", softmax, softmax_backward)

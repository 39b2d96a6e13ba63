"""Cross-entropy of a softmax (Bridle 1990, NIPS 2, pp. 211 to 217) in Triton, its logits read once
by the online form (Milakov & Gimelshein 2018, arXiv:1805.02867).

Elements that must move, for N tokens and V words: forward reads N V, backward reads and writes N V.
A vocabulary's rows are long and exponentials are few a cycle (16 a multiprocessor on an H100), so
that an online pass of two exponentials an element would wait for them as long as for the memory:
here 8 neighbouring elements share one largest score, and so one correction.

The log-sum-exp is kept in two parts, the largest score and the logarithm of the sum after taking it
off: their sum would round large scores' losses away.

Left out: class weights; the fusion with the output head, see linear_cross_entropy.py. Label
smoothing is that of Szegedy et al. 2016, arXiv:1512.00567, section 7.
"""

import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels.arrays import check_grid, on_tensors
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._rows import (
    accumulator,
    as_rows,
    check_integers,
    check_shape,
    check_type,
    power_of_two,
)
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["cross_entropy", "cross_entropy_backward"]

ROW_COLUMNS = 4096  # the widest rows that are held in registers
NEIGHBOURS = 8  # elements that share one largest score: a 16-byte read of half precision
MEAN_BLOCK = 4096


@triton.jit
def shift(largest):
    """What to subtract from a row's scores: the largest, and nothing where all are -inf."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def surprise(aim, largest, log_total, spread, n_columns, SMOOTHING: tl.constexpr):
    """-sum_v q_v log softmax(x)_v of a row, from x at its target (aim).

    spread: sum over v of x_v - aim. With l = log_total + largest the row's log-sum-exp, the target
    costs l - aim, and the mean over the vocabulary l - aim - spread / V.
    """
    nats = log_total + (largest - aim)
    if SMOOTHING > 0:
        # Measured from -inf the spread is nan; the loss is inf already.
        spread = tl.where(aim == float("-inf"), 0.0, spread)
        nats -= SMOOTHING * (spread / n_columns)
    return nats


@triton.jit
def look_up(logits, first, target, counted, n_columns, ACC: tl.constexpr):
    """The score at a target, and what `spread` is measured from.

    A target out of range makes the loss nan, and reads nothing that is not there.
    """
    known = counted & (target >= 0) & (target < n_columns)
    aim = tl.load(logits + first + target, mask=known, other=float("nan")).to(ACC)
    return tl.where(counted, aim, 0.0)


@autotune(
    [
        Choice({"TILE": 4096}, 8, fits=lambda a, arch: a["COLUMNS"] <= 4096),
        Choice({"TILE": 4096}, 4, fits=lambda a, arch: a["COLUMNS"] <= 4096),
        Choice({"TILE": 2048}, 4, fits=lambda a, arch: a["COLUMNS"] <= 2048),
        Choice({"TILE": 1024}, 2, fits=lambda a, arch: a["COLUMNS"] <= 1024),
    ],
    key=["n_columns"],
)
@triton.jit
def cross_entropy_rows(
    logits,
    targets,
    nats,
    largest,
    log_total,
    n_rows,
    n_columns,
    ignore_index,
    SMOOTHING: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):
    """A tile of whole rows in registers: each token's loss, and its row's largest and log-sum."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    row_inside = rows < n_rows
    target = tl.load(targets + rows, mask=row_inside, other=0).to(tl.int64)
    counted = row_inside & (target != ignore_index)
    first = rows.to(tl.int64) * n_columns
    aim = look_up(logits, first, target, counted, n_columns, ACC)
    inside = counted[:, None] & (columns < n_columns)[None, :]
    at = first[:, None] + columns[None, :]
    scores = tl.load(logits + at, mask=inside, other=float("-inf")).to(ACC)
    row_largest = shift(tl.max(scores, 1))
    total = tl.maximum(tl.sum(tl.exp(scores - row_largest[:, None]), 1), 1.0)
    spread = tl.zeros_like(total)
    if SMOOTHING > 0:
        spread = tl.sum(tl.where(inside, scores - aim[:, None], 0.0), 1)
    row_log = tl.log(total)
    loss = surprise(aim, row_largest, row_log, spread, n_columns, SMOOTHING)
    tl.store(nats + rows, tl.where(counted, loss, 0.0), mask=row_inside)
    tl.store(largest + rows, row_largest, mask=row_inside)
    tl.store(log_total + rows, row_log, mask=row_inside)


@autotune(
    [
        Choice({"LANES": 512}, 8),
        Choice({"LANES": 256}, 4),
        Choice({"LANES": 256}, 8),
        Choice({"LANES": 512}, 16),
        Choice({"LANES": 1024}, 8),
        Choice({"LANES": 128}, 4),
    ],
    key=["n_columns"],
)
@triton.jit
def cross_entropy_online(
    logits,
    targets,
    nats,
    largest,
    log_total,
    n_columns,
    ignore_index,
    SMOOTHING: tl.constexpr,
    ACC: tl.constexpr,
    NEIGHBOURS: tl.constexpr,
    LANES: tl.constexpr,
):
    """The same for one long row, in blocks of LANES times NEIGHBOURS elements, read once."""
    row = tl.program_id(0).to(tl.int64)
    first = row * n_columns
    target = tl.load(targets + row).to(tl.int64)
    counted = target != ignore_index
    aim = look_up(logits, first, target, counted, n_columns, ACC)
    columns = tl.arange(0, LANES)[:, None] * NEIGHBOURS + tl.arange(0, NEIGHBOURS)[None, :]
    lane_largest = tl.full((LANES,), float("-inf"), ACC)
    lane_total = tl.zeros((LANES,), ACC)
    lane_spread = tl.zeros((LANES,), ACC)
    wanted = tl.where(counted, n_columns, 0)  # a token that does not count is not read
    for start in tl.range(0, wanted, LANES * NEIGHBOURS):
        inside = start + columns < n_columns
        scores = tl.load(logits + first + start + columns, mask=inside, other=float("-inf"))
        scores = scores.to(ACC)
        larger = tl.maximum(lane_largest, tl.max(scores, 1))
        off = shift(larger)
        block_total = tl.sum(tl.exp(scores - off[:, None]), 1)
        lane_total = lane_total * tl.exp(lane_largest - off) + block_total
        lane_largest = larger
        if SMOOTHING > 0:
            lane_spread += tl.sum(tl.where(inside, scores - aim, 0.0), 1)
    row_largest = shift(tl.max(lane_largest, 0))
    total = tl.maximum(tl.sum(lane_total * tl.exp(lane_largest - row_largest), 0), 1.0)
    row_log = tl.log(total)
    spread = tl.sum(lane_spread, 0)
    loss = surprise(aim, row_largest, row_log, spread, n_columns, SMOOTHING)
    tl.store(nats + row, tl.where(counted, loss, 0.0))
    tl.store(largest + row, row_largest)
    tl.store(log_total + row, row_log)


@triton.jit
def mean_counted(
    nats, targets, loss, count, n_rows, ignore_index, ACC: tl.constexpr, BLOCK: tl.constexpr
):
    """The mean over the tokens that count, in one program and so always in the same order."""
    rows = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), ACC)
    number = tl.zeros((BLOCK,), tl.int32)
    for start in tl.range(0, n_rows, BLOCK):
        inside = start + rows < n_rows
        target = tl.load(targets + start + rows, mask=inside, other=0).to(tl.int64)
        number += (inside & (target != ignore_index)).to(tl.int32)
        total += tl.load(nats + start + rows, mask=inside, other=0)
    counted = tl.maximum(tl.sum(number, 0), 1).to(ACC)  # never divide by zero
    tl.store(count, counted)
    tl.store(loss, tl.sum(total, 0) / counted)


@autotune(
    [
        Choice({"TILE": 4096}, 8),
        Choice({"TILE": 2048}, 4),
        Choice({"TILE": 4096}, 4),
        Choice({"TILE": 8192}, 8),
        Choice({"TILE": 1024}, 4),
    ],
    key=["n_columns"],
)
@triton.jit
def cross_entropy_gradient(
    logits,
    targets,
    largest,
    log_total,
    count,
    dloss,
    dlogits,
    n_rows,
    n_columns,
    ignore_index,
    SMOOTHING: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):
    """dlogits, a tile at a time: softmax(logits) - q, times dloss / count."""
    # A block wider than a row (which fits COLUMNS) takes several rows; otherwise a part of one.
    WIDTH: tl.constexpr = COLUMNS if TILE > COLUMNS else TILE
    ROWS: tl.constexpr = TILE // WIDTH
    blocks = tl.cdiv(n_columns, WIDTH)
    rows = (tl.program_id(0) // blocks) * ROWS + tl.arange(0, ROWS)
    columns = (tl.program_id(0) % blocks) * WIDTH + tl.arange(0, WIDTH)
    row_inside = rows < n_rows
    target = tl.load(targets + rows, mask=row_inside, other=0).to(tl.int64)
    counted = row_inside & (target != ignore_index)
    first = rows.to(tl.int64) * n_columns
    inside = row_inside[:, None] & (columns < n_columns)[None, :]
    at = first[:, None] + columns[None, :]
    # forward: loss = sum of the counted nats / count
    dnats = tl.where(counted, tl.load(dloss).to(ACC) / tl.load(count), 0.0)
    off = tl.load(largest + rows, mask=row_inside, other=0)
    row_log = tl.load(log_total + rows, mask=row_inside, other=0)
    scores = tl.load(logits + at, mask=inside & counted[:, None], other=0).to(ACC)
    probs = tl.exp((scores - off[:, None]) - row_log[:, None])
    # forward: nats = -sum_v q_v * log softmax(logits)_v, whose gradient is softmax(logits) - q
    on_target = tl.full((), 1.0 - SMOOTHING, ACC)
    wanted = tl.where(columns[None, :] == target[:, None], on_target, 0.0)
    if SMOOTHING > 0:
        wanted += tl.full((), SMOOTHING, ACC) / n_columns
    out = dnats[:, None] * (probs - wanted)
    tl.store(dlogits + at, out.to(dlogits.dtype.element_ty), mask=inside)


@on_tensors
def cross_entropy(logits, *, targets, ignore_index=-100, label_smoothing=0.0):
    """Mean surprise at the targets, in nats, over the tokens that count; 0 where none does.

    Parameters
    ----------
    logits : (..., V) float16, bfloat16, float32 or float64; a V that divides by 8 is read in 16
        bytes at a time, another one word by word
    targets : (...) integers in [0, V), or `ignore_index`. One out of range makes the loss nan.
    ignore_index : int
    label_smoothing : float in [0, 1]

    Returns
    -------
    loss : scalar; float32 for half precision

    Raises
    ------
    ValueError
        where shapes or dtypes do not fit, or label smoothing is outside [0, 1].
    """
    check_type("cross_entropy", logits=logits)
    if logits.ndim == 0:
        raise ValueError("cross_entropy: logits must have at least one axis, got a scalar")
    check_integers("cross_entropy", "targets", targets)
    check_shape("cross_entropy", "targets", targets, tuple(logits.shape[:-1]))
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
    rows, targets = as_rows(logits), targets.contiguous().view(-1).to(logits.device)
    n_rows, n_columns = len(targets), logits.shape[-1]
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    nats, largest, log_total = torch.empty((3, n_rows), dtype=exact, device=logits.device)
    loss, count = torch.empty((2, 1), dtype=exact, device=logits.device)
    arrays = {"targets": targets, "nats": nats, "largest": largest, "log_total": log_total}
    options = {"SMOOTHING": float(label_smoothing), "ACC": accumulator(logits.dtype)}
    options["ignore_index"] = int(ignore_index)
    columns = power_of_two(n_columns)
    check_grid("cross_entropy", (n_rows,))
    if rows.numel() == 0:
        nats.zero_()
    elif columns <= ROW_COLUMNS:

        def grid(arguments):
            return (triton.cdiv(n_rows, max(1, arguments["TILE"] // columns)),)

        cross_entropy_rows[grid](
            rows, n_rows=n_rows, n_columns=n_columns, COLUMNS=columns, **arrays, **options
        )
    else:
        cross_entropy_online[(n_rows,)](
            rows, n_columns=n_columns, NEIGHBOURS=NEIGHBOURS, **arrays, **options
        )
    mean_counted[(1,)](
        nats,
        targets,
        loss,
        count,
        n_rows,
        options["ignore_index"],
        ACC=options["ACC"],
        BLOCK=MEAN_BLOCK,
        num_warps=16,
    )
    saved = (rows, targets, largest, log_total, count, options, logits.shape)
    return loss.view(()), saved


@on_tensors.backward
def cross_entropy_backward(dloss, cache):
    rows, targets, largest, log_total, count, options, shape = cache
    (n_rows, n_columns), columns = rows.shape, power_of_two(rows.shape[-1])
    dlogits = torch.empty_like(rows)

    def grid(arguments):
        tile = arguments["TILE"]
        width = columns if tile > columns else tile
        return (triton.cdiv(n_rows, tile // width) * triton.cdiv(n_columns, width),)

    check_grid("cross_entropy_backward", (n_rows * triton.cdiv(n_columns, 1024),))
    if dlogits.numel():
        cross_entropy_gradient[grid](
            rows,
            targets,
            largest,
            log_total,
            count,
            dloss.contiguous(),
            dlogits,
            n_rows,
            n_columns,
            COLUMNS=columns,
            **options,
        )
    return dlogits.view(shape)


def configurations():
    """What the launchers compile for a character model and for GPT-2's padded vocabulary."""
    found = []
    statistics = {"largest": "*fp32", "log_total": "*fp32"}
    common = {"targets": "*i64", "n_columns": "i32:16", "ignore_index": "i32", **statistics}
    flags = {"SMOOTHING": 0.0, "ACC": tl.float32}
    rows = {"n_rows": "i32:16"}
    for kind, arches in (("fp16", (75,)), ("bf16", (80, 90))):
        data = {"logits": f"*{kind}"}
        gradient = {"count": "*fp32", "dloss": "*fp32", "dlogits": f"*{kind}"}
        for kernel, types, constants in (
            (cross_entropy_rows, {"nats": "*fp32", **rows}, {"COLUMNS": 128}),
            (cross_entropy_online, {"nats": "*fp32"}, {"NEIGHBOURS": NEIGHBOURS}),
            (cross_entropy_gradient, gradient | rows, {"COLUMNS": 65536}),
        ):
            choice = kernel.choices[0]
            found.append(
                Configuration(
                    f"{kernel.__name__} {kind}",
                    kernel,
                    data | common | types,
                    flags | constants | choice.constants,
                    choice.num_warps,
                    arches=arches,
                    expects=("vector loads",),
                )
            )
    types = dict.fromkeys(("nats", "loss", "count"), "*fp32")
    types |= {"targets": "*i64", "n_rows": "i32:16", "ignore_index": "i32"}
    constants = {"ACC": tl.float32, "BLOCK": MEAN_BLOCK}
    found.append(Configuration("mean_counted", mean_counted, types, constants, 16))
    return found


register("cross_entropy", "triton", cross_entropy, cross_entropy_backward)

"""Word embeddings by look-up (Bengio, Ducharme, Vincent & Jauvin 2003, JMLR 3, section 2) in
Triton; their gradient without atomic additions.

Bytes that must move, for N ids, V words and C channels: forward reads and writes N C; backward
reads N C and writes V C, most of it zeros.

Several positions with the same id add up to one row. `atomicAdd` would do that in whatever order
the positions come, and rounds differently in each run. Here the positions are sorted by id, and
each program adds up a few neighbours in their order: a sum that begins and ends within these is
written at once, and the pieces of longer ones go to a scratch array, which a second kernel adds up,
again in order. So an id that is half of the text does not keep one program busy alone.

All sizes of the launches follow from the shapes: nothing is read back from the GPU.
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
    signed,
)
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["embedding", "embedding_backward", "embedding_gradient"]

SEGMENT = 16  # sorted positions that one program adds up
COLUMNS = 1024  # channels that it does so for, at most
PIECES = 16  # pieces of a long sum that are read at once


@autotune(
    [
        Choice({"TILE": 4096}, 8),
        Choice({"TILE": 4096}, 4),
        Choice({"TILE": 2048}, 4),
        Choice({"TILE": 1024}, 2),
    ],
    key=["n_columns"],
)
@triton.jit
def gather_rows(
    weight, ids, y, n_ids, n_words, n_columns, COLUMNS: tl.constexpr, TILE: tl.constexpr
):
    """A tile of y = weight[ids]; an id out of range gives nan, and reads nothing."""
    WIDTH: tl.constexpr = COLUMNS if TILE > COLUMNS else TILE
    ROWS: tl.constexpr = TILE // WIDTH
    blocks = tl.cdiv(n_columns, WIDTH)
    rows = (tl.program_id(0) // blocks) * ROWS + tl.arange(0, ROWS)
    columns = (tl.program_id(0) % blocks) * WIDTH + tl.arange(0, WIDTH)
    row_inside = rows < n_ids
    word = tl.load(ids + rows, mask=row_inside, other=0).to(tl.int64)
    inside = row_inside[:, None] & (columns < n_columns)[None, :]
    known = (word >= 0) & (word < n_words)
    values = tl.load(
        weight + word[:, None] * n_columns + columns[None, :],
        mask=inside & known[:, None],
        other=float("nan"),
    )
    tl.store(y + rows.to(tl.int64)[:, None] * n_columns + columns[None, :], values, mask=inside)


@triton.jit
def until(condition, columns, n_columns):
    """A mask: the columns of a row where a scalar condition holds, and none where it does not."""
    return columns < tl.where(condition, n_columns, 0)


@triton.jit
def sum_segments(
    dy,
    order,
    sorted_ids,
    dweight,
    pieces,
    n_ids,
    n_words,
    n_columns,
    ACC: tl.constexpr,
    SEGMENT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up SEGMENT neighbours of the sorted positions, id by id.

    pieces (programs, 2, C): [0] the piece of a sum that an earlier program began, [1] the first
    piece of one that goes on in the next.
    """
    segment = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = segment * SEGMENT
    before = tl.load(sorted_ids + start - 1, mask=start > 0, other=-1)
    at_piece = pieces + segment.to(tl.int64) * 2 * n_columns + columns
    total = tl.zeros((COLUMNS,), ACC)
    began_here = tl.load(sorted_ids + start) != before
    for step in tl.static_range(SEGMENT):
        place = start + step
        real = place < n_ids
        word = tl.load(sorted_ids + place, mask=real, other=-1)
        after = tl.load(sorted_ids + place + 1, mask=place + 1 < n_ids, other=-1)
        source = tl.load(order + place, mask=real, other=0).to(tl.int64)
        row = tl.load(
            dy + source * n_columns + columns, mask=until(real, columns, n_columns), other=0
        )
        total += row.to(ACC)
        ends = real & (word != after)
        to_weight = ends & began_here & (word >= 0) & (word < n_words)
        tl.store(
            dweight + word.to(tl.int64) * n_columns + columns,
            total.to(dweight.dtype.element_ty),
            mask=until(to_weight, columns, n_columns),
        )
        belongs_earlier = ends & (began_here == 0)
        tl.store(at_piece, total, mask=until(belongs_earlier, columns, n_columns))
        total = tl.where(ends, 0.0, total)
        began_here = began_here | ends
    # What is left goes on in the next program: as a first piece, or as one in the middle.
    last = start + SEGMENT - 1
    goes_on = (last + 1 < n_ids) & (
        tl.load(sorted_ids + last, mask=last < n_ids, other=-1)
        == tl.load(sorted_ids + last + 1, mask=last + 1 < n_ids, other=-2)
    )
    at_piece += began_here.to(tl.int32) * n_columns
    tl.store(at_piece, total, mask=until(goes_on, columns, n_columns))


@triton.jit
def sum_pieces(
    sorted_ids,
    dweight,
    pieces,
    n_ids,
    n_words,
    n_columns,
    ACC: tl.constexpr,
    SEGMENT: tl.constexpr,
    PIECES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up the pieces of a sum that begins in this program's segment and goes on after it."""
    segment = tl.program_id(0)
    last = segment * SEGMENT + SEGMENT - 1
    word = tl.load(sorted_ids + last, mask=last < n_ids, other=-1)
    after = tl.load(sorted_ids + last + 1, mask=last + 1 < n_ids, other=-2)
    start = segment * SEGMENT
    before = tl.load(sorted_ids + start - 1, mask=start > 0, other=-1)
    # One that fills the whole segment may have begun earlier: then it is not ours.
    first = tl.load(sorted_ids + start)
    if (word == after) & ((first != word) | (before != word)) & (word >= 0) & (word < n_words):
        columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        inside = columns < n_columns
        total = tl.load(
            pieces + (segment.to(tl.int64) * 2 + 1) * n_columns + columns, mask=inside, other=0
        )
        lanes = tl.arange(0, PIECES)
        next_segment = segment + 1
        more = next_segment * SEGMENT < n_ids
        while more:
            segments = next_segment + lanes
            at = segments.to(tl.int64) * SEGMENT
            # A segment has a middle or last piece exactly if it starts with our word.
            ours = tl.load(sorted_ids + at, mask=at < n_ids, other=-1) == word
            tile = pieces + segments.to(tl.int64)[:, None] * 2 * n_columns + columns[None, :]
            total += tl.sum(tl.load(tile, mask=ours[:, None] & inside[None, :], other=0), 0)
            next_segment += PIECES
            more = tl.sum(ours.to(tl.int32), 0) == PIECES
        tl.store(
            dweight + word.to(tl.int64) * n_columns + columns,
            total.to(dweight.dtype.element_ty),
            mask=inside,
        )


@triton.jit
def add_rows(
    dy, ids, dweight, n_ids, n_words, n_columns, SEGMENT: tl.constexpr, COLUMNS: tl.constexpr
):
    """The atomic variant: each row is added to its id's as it comes."""
    rows = tl.program_id(0) * SEGMENT + tl.arange(0, SEGMENT)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    word = tl.load(ids + rows, mask=rows < n_ids, other=-1).to(tl.int64)
    known = (word >= 0) & (word < n_words)
    inside = known[:, None] & (columns < n_columns)[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    values = tl.load(dy + at, mask=inside, other=0).to(dweight.dtype.element_ty)
    tl.atomic_add(
        dweight + word[:, None] * n_columns + columns[None, :], values, mask=inside, sem="relaxed"
    )


def embedding_gradient(dy, ids, n_words, *, dtype=None, deterministic=True):
    """The gradient of an embedding's weight.

    Parameters
    ----------
    dy : (..., C)
    ids : (...) integers; one out of [0, n_words) adds to no row
    n_words : int, V
    dtype : of the result; None for dy's. Sums are float32's (float64's for float64) in between.
    deterministic : bool; False adds by atomics, in an order that differs from run to run

    Returns
    -------
    dweight : (V, C)
    """
    name = "embedding_backward"
    rows, ids = as_rows(dy), signed(ids).contiguous().view(-1)
    (n_ids, n_columns), dtype = rows.shape, dtype or dy.dtype
    exact = torch.float64 if dy.dtype == torch.float64 else torch.float32
    sums_in = dtype if deterministic else exact
    dweight = torch.zeros((n_words, n_columns), dtype=sums_in, device=dy.device)
    if rows.numel() == 0 or n_words == 0:
        return dweight.to(dtype)
    width = min(power_of_two(n_columns), COLUMNS)
    n_segments = triton.cdiv(n_ids, SEGMENT)
    grid = (n_segments, triton.cdiv(n_columns, width))
    check_grid(name, grid)
    sizes = {"n_ids": n_ids, "n_words": n_words, "n_columns": n_columns}
    blocks = {"SEGMENT": SEGMENT, "COLUMNS": width, "num_warps": 4}
    if not deterministic:
        add_rows[grid](rows, ids, dweight, **sizes, **blocks)
        return dweight.to(dtype)
    sorted_ids, order = torch.sort(ids, stable=True)
    pieces = torch.empty((n_segments, 2, n_columns), dtype=exact, device=dy.device)
    options = {**sizes, **blocks, "ACC": accumulator(dy.dtype)}
    sum_segments[grid](rows, order, sorted_ids, dweight, pieces, **options)
    sum_pieces[grid](sorted_ids, dweight, pieces, PIECES=PIECES, **options)
    return dweight


@on_tensors
def embedding(weight, *, ids):
    """Look up one row of the weight for each id.

    Parameters
    ----------
    weight : (V, C) float16, bfloat16, float32 or float64
    ids : (...) integers in [0, V). One out of range gives a row of nan.

    Returns
    -------
    y : (..., C)

    Raises
    ------
    ValueError
        where the weight is no matrix of floats or the ids are no integers.
    """
    check_type("embedding", weight=weight)
    check_shape("embedding", "weight", weight, (None, None))
    check_integers("embedding", "ids", ids)
    table, ids = weight.contiguous(), signed(ids).to(weight.device)
    (n_words, n_columns), flat = table.shape, ids.contiguous().view(-1)
    y = torch.empty((len(flat), n_columns), dtype=weight.dtype, device=weight.device)
    columns = power_of_two(n_columns)

    def grid(arguments):
        tile = arguments["TILE"]
        width = columns if tile > columns else tile
        return (triton.cdiv(len(flat), tile // width) * triton.cdiv(n_columns, width),)

    check_grid("embedding", (len(flat) * triton.cdiv(n_columns, 1024),))
    if y.numel():
        gather_rows[grid](table, flat, y, len(flat), n_words, n_columns, COLUMNS=columns)
    return y.view(*ids.shape, n_columns), (ids, n_words, weight.dtype)


@on_tensors.backward
def embedding_backward(dy, cache):
    ids, n_words, dtype = cache
    return embedding_gradient(dy, ids, n_words, dtype=dtype)


def configurations():
    """What the launchers compile at GPT-2's width."""
    found = []
    sizes = {"n_ids": "i32:16", "n_words": "i32", "n_columns": "i32:16"}
    blocks = {"SEGMENT": SEGMENT, "COLUMNS": COLUMNS}
    choice = gather_rows.choices[0]
    for kind, arches in (("fp16", (75,)), ("bf16", (80, 90)), ("fp32", (90,))):
        data = f"*{kind}"
        scratch = {"order": "*i64", "sorted_ids": "*i64", "pieces": "*fp32", "dweight": "*fp32"}
        for kernel, types, constants, warps in (
            (
                gather_rows,
                {"weight": data, "ids": "*i64", "y": data},
                {"COLUMNS": COLUMNS, **choice.constants},
                choice.num_warps,
            ),
            (sum_segments, {"dy": data, **scratch}, blocks | {"ACC": tl.float32}, 4),
            (add_rows, {"dy": data, "ids": "*i64", "dweight": "*fp32"}, blocks, 4),
        ):
            found.append(
                Configuration(
                    f"{kernel.__name__} {kind}",
                    kernel,
                    sizes | types,
                    constants,
                    warps,
                    arches=arches,
                    expects=("vector loads",),
                )
            )
    del scratch["order"]
    constants = {**blocks, "ACC": tl.float32, "PIECES": PIECES}
    found.append(Configuration("sum_pieces", sum_pieces, sizes | scratch, constants))
    return found


register("embedding", "triton", embedding, embedding_backward)

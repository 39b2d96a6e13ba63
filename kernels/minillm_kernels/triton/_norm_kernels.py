"""The kernels of layer norm and RMS norm, alone and with a residual sum before them.

One set serves the four ops: CENTRED is layer norm, which takes the mean off and adds a bias, and
ADDED reads two arrays and keeps their sum. Elements that must move, for N rows of C:

forward     reads N C, writes N C (ADDED: reads 2 N C, writes 2 N C), and N or 2 N of statistics
backward    reads 2 N C, writes N C (ADDED with an upstream of the sum: reads 3 N C)

and the parameters' C are small beside them. Rows that fit registers are read once. Longer rows are
read twice, the second time mostly from the second-level cache.

The statistics are kept in float32 (float64 for float64), not the normalised rows: backward computes
those again, which costs no traffic, since it reads x anyway. Every array has a dtype of its own: a
transformer block has its rows in float32 and what its products read and write in bfloat16.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._tune import Choice, autotune

__all__ = [
    "BACKWARD_COLUMNS",
    "FORWARD_COLUMNS",
    "norm_backward",
    "norm_backward_columns",
    "norm_backward_loop",
    "norm_forward",
    "norm_forward_loop",
    "rows_of_tile",
]

# The widest rows that are held in registers: 32 values for each of 512 threads in forward;
# backward holds five rows (dy, x, the gain, two sums), and so 16 of each; 8 with a sixth.
FORWARD_COLUMNS, BACKWARD_COLUMNS = 16384, 8192


def _choices(pairs, **constants):
    """TILE elements a program: several short rows, or one that is not longer than that."""

    def choice(tile, warps):
        def fits(arguments, arch):
            # with six rows (ROUNDED: one sum more) 8192 elements spill
            return arguments["COLUMNS"] <= tile and not (arguments.get("ROUNDED") and tile > 4096)

        return Choice({"TILE": tile, **constants}, num_warps=warps, fits=fits)

    return [choice(*pair) for pair in pairs]


def rows_of_tile(arguments):
    return max(1, arguments["TILE"] // arguments["COLUMNS"])


@autotune(
    _choices([(4096, 8), (4096, 4), (2048, 4), (2048, 2), (1024, 2), (1024, 1), (8192, 8)])
    + _choices([(16384, 16)]),
    key=["n_columns"],
)
@triton.jit
def norm_forward(
    x,
    residual,
    gain,
    bias,
    y,
    total,
    mean,
    inv_std,
    n_rows,
    n_columns,
    EPS: tl.constexpr,
    CENTRED: tl.constexpr,
    ADDED: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
):
    """A tile of whole rows in registers; each element is read once."""
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    row_inside, inside_columns = rows < n_rows, columns < n_columns
    inside = row_inside[:, None] & inside_columns[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    values = tl.load(x + at, mask=inside, other=0).to(ACC)
    if ADDED:
        values += tl.load(residual + at, mask=inside, other=0).to(ACC)
        rounded = values.to(total.dtype.element_ty)
        tl.store(total + at, rounded, mask=inside)
        values = rounded.to(ACC)  # y is the norm of the sum that the caller gets
    scale = tl.load(gain + columns, mask=inside_columns, other=0).to(ACC)[None, :]
    if CENTRED:
        centre = tl.sum(values, 1) / n_columns
        tl.store(mean + rows, centre, mask=row_inside)
        values = tl.where(inside, values - centre[:, None], 0)
    rate = 1 / tl.sqrt(tl.sum(values * values, 1) / n_columns + EPS)
    tl.store(inv_std + rows, rate, mask=row_inside)
    out = values * rate[:, None] * scale
    if CENTRED:
        out += tl.load(bias + columns, mask=inside_columns, other=0).to(ACC)[None, :]
    tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def norm_forward_loop(
    x,
    residual,
    gain,
    bias,
    y,
    total,
    mean,
    inv_std,
    n_columns,
    EPS: tl.constexpr,
    CENTRED: tl.constexpr,
    ADDED: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One row in blocks, twice: its statistics, then its result.

    The blocks' means and squared deviations are merged by Chan, Golub & LeVeque 1983, "Algorithms
    for computing the sample variance", eq. 2.1: no difference of large sums.
    """
    row = tl.program_id(0).to(tl.int64)
    first = row * n_columns
    columns = tl.arange(0, COLUMNS)
    centre = tl.zeros((), ACC)
    squares = tl.zeros((), ACC)  # of the deviations from the centre so far
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        values = tl.load(x + first + start + columns, mask=inside, other=0).to(ACC)
        if ADDED:
            values += tl.load(residual + first + start + columns, mask=inside, other=0).to(ACC)
            rounded = values.to(total.dtype.element_ty)
            tl.store(total + first + start + columns, rounded, mask=inside)
            values = rounded.to(ACC)
        if CENTRED:
            here = tl.minimum(COLUMNS, n_columns - start).to(ACC)
            block_centre = tl.sum(values, 0) / here
            values = tl.where(inside, values - block_centre, 0)
            apart = block_centre - centre
            centre += apart * (here / (start + here))
            squares += apart * apart * (start * here / (start + here))
        squares += tl.sum(values * values, 0)
    rate = 1 / tl.sqrt(squares / n_columns + EPS)
    if CENTRED:
        tl.store(mean + row, centre)
    tl.store(inv_std + row, rate)
    if ADDED:
        tl.debug_barrier()  # the sum is read back, maybe by another thread than wrote it
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        source = total if ADDED else x
        values = tl.load(source + first + start + columns, mask=inside, other=0).to(ACC)
        scale = tl.load(gain + start + columns, mask=inside, other=0).to(ACC)
        out = (values - centre) * rate * scale
        if CENTRED:
            out += tl.load(bias + start + columns, mask=inside, other=0).to(ACC)
        tl.store(y + first + start + columns, out.to(y.dtype.element_ty), mask=inside)


@autotune(
    _choices([(4096, 8), (2048, 4), (1024, 4), (2048, 8), (4096, 16), (8192, 16)], STAGES=1)
    + _choices([(2048, 4), (2048, 8), (4096, 8)], STAGES=2)
    + _choices([(1024, 4)], STAGES=3),
    key=["n_columns"],
)
@triton.jit
def norm_backward(
    dy,
    dtotal,
    x,
    gain,
    mean,
    inv_std,
    dx,
    rounded,
    parts,
    n_rows,
    n_columns,
    n_programs,
    CENTRED: tl.constexpr,
    ADDED: tl.constexpr,
    ROUNDED: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """dx of every n_programs-th tile of rows, and this program's share of dgain and dbias.

    forward: normed = (x - mean) * inv_std, y = normed * gain + bias. A program keeps its share of
    the parameters' gradients in registers over all its rows and writes it once, into parts
    (1 to 3, n_programs, C): no atomic additions, so that two runs agree to the last bit.

    ROUNDED also writes dx in the dtype of `rounded`, for the products that it goes into next, and
    its columns' sums into the last of the parts, the gradient of a bias that was added there.
    """
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    program = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)
    inside_columns = columns < n_columns
    scale = tl.load(gain + columns, mask=inside_columns, other=0).to(ACC)[None, :]
    dgain = tl.zeros((ROWS, COLUMNS), ACC)
    dbias = tl.zeros((ROWS, COLUMNS), ACC)
    sums = tl.zeros((ROWS, COLUMNS), ACC)
    for start in tl.range(program * ROWS, n_rows, n_programs * ROWS, num_stages=STAGES):
        rows = start + tl.arange(0, ROWS)
        row_inside = rows < n_rows
        inside = row_inside[:, None] & inside_columns[None, :]
        at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
        upstream = tl.load(dy + at, mask=inside, other=0).to(ACC)
        normed = tl.load(x + at, mask=inside, other=0).to(ACC)
        rate = tl.load(inv_std + rows, mask=row_inside, other=0)[:, None]
        if CENTRED:
            normed -= tl.load(mean + rows, mask=row_inside, other=0)[:, None]
            dbias += upstream
        normed *= rate
        dgain += upstream * normed
        dnormed = upstream * scale
        out = dnormed - normed * (tl.sum(dnormed * normed, 1) / n_columns)[:, None]
        if CENTRED:
            out -= (tl.sum(dnormed, 1) / n_columns)[:, None]
        out *= rate
        if ADDED:
            out += tl.load(dtotal + at, mask=inside, other=0).to(ACC)
        tl.store(dx + at, out.to(dx.dtype.element_ty), mask=inside)
        if ROUNDED:
            tl.store(rounded + at, out.to(rounded.dtype.element_ty), mask=inside)
            sums += tl.where(inside, out, 0)
    # A count of 1 is a constant to the compiler, which can be added but not converted.
    at_part = parts + program.to(tl.int64) * n_columns + columns
    tl.store(at_part, tl.sum(dgain, 0), mask=inside_columns)
    if CENTRED:
        at_part = parts + (program + n_programs).to(tl.int64) * n_columns + columns
        tl.store(at_part, tl.sum(dbias, 0), mask=inside_columns)
    if ROUNDED:
        last: tl.constexpr = 2 if CENTRED else 1
        at_part = parts + (program + last * n_programs).to(tl.int64) * n_columns + columns
        tl.store(at_part, tl.sum(sums, 0), mask=inside_columns)


@triton.jit
def norm_backward_loop(
    dy,
    dtotal,
    x,
    gain,
    mean,
    inv_std,
    dx,
    n_columns,
    CENTRED: tl.constexpr,
    ADDED: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """dx of one row in blocks, twice: the two means that come off, then the result."""
    row = tl.program_id(0).to(tl.int64)
    first = row * n_columns
    columns = tl.arange(0, COLUMNS)
    rate = tl.load(inv_std + row)
    centre = tl.zeros((), ACC)
    if CENTRED:
        centre = tl.load(mean + row)
    plain = tl.zeros((COLUMNS,), ACC)
    weighted = tl.zeros((COLUMNS,), ACC)
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        upstream = tl.load(dy + first + start + columns, mask=inside, other=0).to(ACC)
        values = tl.load(x + first + start + columns, mask=inside, other=0).to(ACC)
        dnormed = upstream * tl.load(gain + start + columns, mask=inside, other=0).to(ACC)
        plain += dnormed
        weighted += dnormed * (values - centre) * rate
    mean_weighted = tl.sum(weighted, 0) / n_columns
    mean_plain = tl.sum(plain, 0) / n_columns
    for start in tl.range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        upstream = tl.load(dy + first + start + columns, mask=inside, other=0).to(ACC)
        values = tl.load(x + first + start + columns, mask=inside, other=0).to(ACC)
        dnormed = upstream * tl.load(gain + start + columns, mask=inside, other=0).to(ACC)
        out = dnormed - (values - centre) * rate * mean_weighted
        if CENTRED:
            out -= mean_plain
        out *= rate
        if ADDED:
            out += tl.load(dtotal + first + start + columns, mask=inside, other=0).to(ACC)
        tl.store(dx + first + start + columns, out.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward_columns(
    dy,
    x,
    mean,
    inv_std,
    parts,
    n_rows,
    n_columns,
    n_programs,
    CENTRED: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Long rows' shares of dgain and dbias: a block of columns of every n_programs-th tile."""
    program = tl.program_id(1)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside_columns = columns < n_columns
    dgain = tl.zeros((ROWS, COLUMNS), ACC)
    dbias = tl.zeros((ROWS, COLUMNS), ACC)
    for start in tl.range(program * ROWS, n_rows, n_programs * ROWS):
        rows = start + tl.arange(0, ROWS)
        inside = (rows < n_rows)[:, None] & inside_columns[None, :]
        at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
        upstream = tl.load(dy + at, mask=inside, other=0).to(ACC)
        normed = tl.load(x + at, mask=inside, other=0).to(ACC)
        if CENTRED:
            normed -= tl.load(mean + rows, mask=rows < n_rows, other=0)[:, None]
            dbias += upstream
        dgain += upstream * normed * tl.load(inv_std + rows, mask=rows < n_rows, other=0)[:, None]
    at_part = parts + program.to(tl.int64) * n_columns + columns
    tl.store(at_part, tl.sum(dgain, 0), mask=inside_columns)
    if CENTRED:
        at_part = parts + (program + n_programs).to(tl.int64) * n_columns + columns
        tl.store(at_part, tl.sum(dbias, 0), mask=inside_columns)

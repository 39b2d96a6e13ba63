"""The kernels of layer norm and RMS norm, alone and with a residual sum before them.

One set serves the four ops: CENTRED is layer norm, which takes the mean off and adds a bias, and
ADDED reads two arrays and keeps their sum. Elements that must move, for N rows of C:

forward     reads N C, writes N C (ADDED: reads 2 N C, writes 2 N C), and N or 2 N of statistics
backward    reads 2 N C, writes N C (ADDED with an upstream of the sum: reads 3 N C)

and the parameters' C are small beside them. Rows that fit registers are read once. Longer rows are
read twice, the second time mostly from the second-level cache.

The statistics are kept in float32 (float64 for float64), not the normalised rows: backward computes
those again, which costs no traffic, since it reads x anyway.
"""

import torch
import triton
import triton.language as tl

from minillm_kernels.arrays import check_grid
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._rows import (
    accumulator,
    as_rows,
    check_same,
    check_shape,
    check_type,
    column_sums,
    power_of_two,
    processors,
)
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["backward", "compiled", "forward"]

# The widest rows that are held in registers: 32 values for each of 512 threads in forward;
# backward holds five rows (dy, x, the gain, two sums), and so 16 of each.
FORWARD_COLUMNS, BACKWARD_COLUMNS = 16384, 8192
LOOP_COLUMNS, LOOP_WARPS = 4096, 8  # the block in which longer rows are read


def _choices(pairs, **constants):
    """TILE elements a program: several short rows, or one that is not longer than that."""

    def choice(tile, warps):
        def fits(arguments, arch):
            return arguments["COLUMNS"] <= tile

        return Choice({"TILE": tile, **constants}, num_warps=warps, fits=fits)

    return [choice(*pair) for pair in pairs]


def _rows(arguments):
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
    parts,
    n_rows,
    n_columns,
    n_programs,
    CENTRED: tl.constexpr,
    ADDED: tl.constexpr,
    ACC: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """dx of every n_programs-th tile of rows, and this program's share of dgain and dbias.

    forward: normed = (x - mean) * inv_std, y = normed * gain + bias. A program keeps its share of
    the parameters' gradients in registers over all its rows and writes it once, into parts
    (1 or 2, n_programs, C): no atomic additions, so that two runs agree to the last bit.
    """
    ROWS: tl.constexpr = TILE // COLUMNS if TILE > COLUMNS else 1
    program = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)
    inside_columns = columns < n_columns
    scale = tl.load(gain + columns, mask=inside_columns, other=0).to(ACC)[None, :]
    dgain = tl.zeros((ROWS, COLUMNS), ACC)
    dbias = tl.zeros((ROWS, COLUMNS), ACC)
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
    at_part = parts + program.to(tl.int64) * n_columns + columns
    tl.store(at_part, tl.sum(dgain, 0), mask=inside_columns)
    if CENTRED:
        second = n_programs.to(tl.int64) * n_columns
        tl.store(at_part + second, tl.sum(dbias, 0), mask=inside_columns)


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
        second = n_programs.to(tl.int64) * n_columns
        tl.store(at_part + second, tl.sum(dbias, 0), mask=inside_columns)


def forward(op_name, x, residual, gain, bias, eps):
    """Launch the forward of one of the four ops.

    Parameters
    ----------
    x : (..., C)
    residual : (..., C), or None where there is no sum
    gain : (C,)
    bias : (C,), or None for RMS norm
    eps : float

    Returns
    -------
    y, total : (..., C); total is x itself where there is no sum
    saved : what `backward` takes
    """
    _check(op_name, x, residual, gain, bias)
    rows, centred, added = as_rows(x), bias is not None, residual is not None
    n_rows, n_columns = rows.shape
    y = torch.empty_like(rows)
    total = torch.empty_like(rows) if added else rows
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    mean = torch.empty(n_rows, dtype=exact, device=x.device) if centred else None
    inv_std = torch.empty(n_rows, dtype=exact, device=x.device)
    arrays = {
        "x": rows,
        "residual": as_rows(residual) if added else None,
        "gain": gain.contiguous(),
        "bias": bias.contiguous() if centred else None,
        "y": y,
        "total": total if added else None,
        "mean": mean,
        "inv_std": inv_std,
    }
    constants = {"CENTRED": centred, "ADDED": added, "ACC": accumulator(x.dtype), "EPS": eps}
    columns = power_of_two(n_columns)
    if y.numel() == 0:
        pass
    elif columns <= FORWARD_COLUMNS:

        def grid(arguments):
            return (triton.cdiv(n_rows, _rows(arguments)),)

        check_grid(op_name, (n_rows,))
        norm_forward[grid](
            **arrays, n_rows=n_rows, n_columns=n_columns, COLUMNS=columns, **constants
        )
    else:
        check_grid(op_name, (n_rows,))
        norm_forward_loop[(n_rows,)](
            **arrays, n_columns=n_columns, COLUMNS=LOOP_COLUMNS, num_warps=LOOP_WARPS, **constants
        )
    return y.view(x.shape), total.view(x.shape), (total, arrays["gain"], mean, inv_std)


def backward(op_name, dy, dtotal, saved):
    """Launch the backward of one of the four ops.

    Parameters
    ----------
    dy : (..., C), or None for zeros
    dtotal : (..., C) the upstream of the sum, or None where there is none
    saved : what `forward` left

    Returns
    -------
    dx : (..., C)
    dgain : (C,)
    dbias : (C,), None for RMS norm
    """
    x, gain, mean, inv_std = saved
    shape = dtotal.shape if dy is None else dy.shape
    dy = torch.zeros_like(x) if dy is None else as_rows(dy)
    check_same(op_name, ("x", x), dy=dy)
    n_rows, n_columns = x.shape
    centred, columns = mean is not None, power_of_two(n_columns)
    dx = torch.empty_like(x)
    arrays = {
        "dy": dy,
        "dtotal": None if dtotal is None else as_rows(dtotal),
        "x": x,
        "gain": gain,
        "mean": mean,
        "inv_std": inv_std,
        "dx": dx,
    }
    flags = {"CENTRED": centred, "ACC": accumulator(x.dtype)}
    added = {"ADDED": dtotal is not None}
    if dx.numel() == 0:
        zeros = torch.zeros((2, n_columns), dtype=gain.dtype, device=x.device)
        return dx.view(shape), zeros[0], zeros[1] if centred else None
    # Two programs a multiprocessor: more would hide more latency and write more partial sums.
    n_programs = min(2 * processors(x), n_rows)
    parts = torch.empty((1 + centred, n_programs, n_columns), dtype=inv_std.dtype, device=x.device)
    sizes = {"n_rows": n_rows, "n_columns": n_columns, "n_programs": n_programs}
    if columns <= BACKWARD_COLUMNS:
        norm_backward[(n_programs,)](
            **arrays, **sizes, parts=parts, COLUMNS=columns, **flags, **added
        )
    else:
        check_grid(op_name, (n_rows,))
        norm_backward_loop[(n_rows,)](
            **arrays, n_columns=n_columns, COLUMNS=LOOP_COLUMNS, num_warps=LOOP_WARPS,
            **flags, **added,
        )  # fmt: skip
        parts = parts[:, : min(n_programs, 64)].contiguous()
        sizes["n_programs"] = parts.shape[1]
        norm_backward_columns[(triton.cdiv(n_columns, 256), parts.shape[1])](
            dy, x, mean, inv_std, parts, **sizes, ROWS=8, COLUMNS=256, **flags
        )
    dparams = column_sums(parts, gain.dtype)  # (1 or 2, C)
    return dx.view(shape), dparams[0], dparams[1] if centred else None


def _check(op_name, x, residual, gain, bias):
    check_type(op_name, x=x, gain=gain)
    if x.ndim == 0:
        raise ValueError(f"{op_name}: x must have at least one axis, got a scalar")
    check_shape(op_name, "gain", gain, x.shape[-1:])
    if bias is not None:
        check_shape(op_name, "bias", bias, x.shape[-1:])
        check_same(op_name, ("gain", gain), bias=bias)
    if residual is not None:
        check_shape(op_name, "residual", residual, tuple(x.shape))
        check_same(op_name, ("x", x), residual=residual)


def compiled(*, centred, added):
    """The configurations of one of the four ops: GPT-2's width, and rows that fit no registers."""
    found = []
    width, columns = 768, 1024
    for kind, arches in (("fp16", (75,)), ("bf16", (80, 90))):
        flags = {"CENTRED": centred, "ADDED": added, "ACC": tl.float32}
        forward_types, backward_types = _types(kind, centred, added)
        for kernel, types in ((norm_forward, forward_types), (norm_backward, backward_types)):
            constants = flags | {name: None for name, type_ in types.items() if type_ is None}
            constants |= {"EPS": 1e-5} if kernel is norm_forward else {}
            choice = kernel.choices[0]
            found.append(
                Configuration(
                    f"{kernel.__name__} {kind} {width}",
                    kernel,
                    {name: type_ for name, type_ in types.items() if type_ is not None},
                    constants | {"COLUMNS": columns} | choice.constants,
                    choice.num_warps,
                    arches=arches,
                    expects=("vector loads",),
                )
            )
    return found


def _types(kind, centred, added):
    """The kernels' arguments with their types; None for those that are left out."""
    data, mean = f"*{kind}", "*fp32" if centred else None
    sizes = {"n_rows": "i32:16", "n_columns": "i32:16"}
    shared = {"x": data, "gain": "*fp32", "mean": mean, "inv_std": "*fp32"}
    second = data if added else None
    bias = "*fp32" if centred else None
    forward_types = {**shared, "residual": second, "bias": bias, "y": data, "total": second}
    backward_types = {**shared, "dy": data, "dtotal": second, "dx": data, "parts": "*fp32"}
    return forward_types | sizes, backward_types | sizes | {"n_programs": "i32"}

"""The layer norm ladder, and the op layer_norm of the backend "cupy".

Every rung is launched in the same way, on CuPy arrays by a GPU, on NumPy arrays by the emulator:

    y, saved = forward(rung, x, gain, bias)
    dx, dgain, dbias = backward(rung, dy, saved)

The last rung also adds a residual in the same pass, for ../add_layer_norm.py.
"""

import math
from pathlib import Path

import numpy as np

from minillm.ops._op import check_shape, register
from minillm_kernels.cuda._rows import FLOATS, Layout, as_rows, check_reachable, launch
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = [
    "RUNGS", "backward", "best_rung", "forward", "layer_norm", "layer_norm_backward",
]  # fmt: skip

HERE = Path(__file__).parent
ROWS = ("layer_norm_forward", "layer_norm_backward")
COLUMNS = ("layer_norm_parameters", "layer_norm_parameters_sum")
THREAD = Rung(HERE / "01_thread_a_row.cu", (*ROWS, COLUMNS[0]), dtypes=FLOATS)
BLOCK = Rung(HERE / "02_block_a_row.cu", ROWS + COLUMNS, dtypes=FLOATS, expects=("BAR.SYNC",))
WARP = Rung(HERE / "03_warp_shuffle.cu", ROWS + COLUMNS, dtypes=FLOATS, expects=("SHFL.BFLY",))
REGISTERS = Rung(
    HERE / "04_registers.cu",
    (*ROWS, COLUMNS[1]),
    dtypes=FLOATS,
    expects=("SHFL.BFLY", "LDG.E.128", "STG.E.128"),
)
RUNGS = (THREAD, BLOCK, WARP, REGISTERS)

PIECES = 4  # packs of 16 bytes that a thread of rung 04 keeps of each array
ACROSS, DOWN = 32, 8  # the block of the kernels that sum over rows
PARTS = 64  # blocks that share a column in rungs 02 and 03
WALKERS = 1024  # blocks of rung 04's backward, each with sums of its own of dgain and dbias


def forward(rung, x, gain, bias, *, eps=1e-5, residual=None):
    """Layer norm of each row by one rung of the ladder.

    Parameters
    ----------
    rung : one of RUNGS
    x : (N, C), C-contiguous
    gain, bias : (C,)
    eps : float
    residual : None or (N, C), added to x first; rung 04 alone

    Returns
    -------
    y : (N, C), or (y, x + residual) where a residual is given
    saved : what `backward` needs

    Raises
    ------
    ValueError
        for a dtype, shape, stride or device that the rung cannot work with, before any launch.
    """
    check_array("x", x, dtype=("float32", "float64"), shape=(None, None))
    rows, columns = x.shape
    for name, array in (("gain", gain), ("bias", bias)):
        check_array(name, array, dtype=x.dtype, shape=(columns,), like=x)
    adds, total, given = {}, x, (x,)
    if residual is not None:
        if rung is not REGISTERS:
            raise ValueError(f"residual must be None for {rung}: {REGISTERS} adds it")
        check_array("residual", residual, dtype=x.dtype, shape=x.shape, like=x)
    with allocating(f"{rung}, forward"):
        y = np.empty(x.shape, x.dtype, like=x)
        mean, inv_std = (np.empty(rows, x.dtype, like=x) for _ in range(2))
        if residual is not None:
            total = np.empty(x.shape, x.dtype, like=x)
            adds, given = {"ADD": 1}, (x, residual, total)
    if rows:
        plan = layout(rung, *given, gain, bias, y)
        args = (*given, gain, bias, y, mean, inv_std, rows, columns, x.dtype.type(eps))
        launch(rung, "layer_norm_forward", plan, x, *args, macros=adds)
    return y if residual is None else (y, total), (total, gain, mean, inv_std)


def backward(rung, dy, saved, *, dtotal=None):
    """The gradients of x, gain and bias by one rung; dy : (N, C), C-contiguous.

    dtotal : None or (N, C), the gradient of the output x + residual, added to that of x; rung 04
    alone
    """
    x, gain, mean, inv_std = saved
    rows, columns = x.shape
    check_array("dy", dy, dtype=x.dtype, shape=x.shape, like=x)
    if dtotal is not None:
        check_array("dtotal", dtotal, dtype=x.dtype, shape=x.shape, like=x)
    with allocating(f"{rung}, backward"):
        dx = np.empty(x.shape, x.dtype, like=x)
        dgain, dbias = (np.empty(columns, x.dtype, like=x) for _ in range(2))
    if rows == 0:
        dgain[...] = dbias[...] = 0
        return dx, dgain, dbias
    row_args = (x, gain, mean, inv_std, dx)
    if rung is REGISTERS:
        upstream = (dy,) if dtotal is None else (dy, dtotal)
        plan = layout(rung, *upstream, x, gain, dx)
        plan = Layout((min(plan.grid[0], WALKERS),), plan.block, plan.macros)
        parts = plan.grid[0] * (plan.block[1] if len(plan.block) > 1 else 1)
        sums = partial_sums(rung, x, parts)
        adds = {} if dtotal is None else {"ADD": 1}
        args = (*upstream, *row_args, *sums, rows, columns)
        launch(rung, "layer_norm_backward", plan, x, *args, macros=adds)
        sum_parts(rung, x, sums, dgain, dbias, {**plan.macros, **adds})
        return dx, dgain, dbias
    plan = layout(rung, dy, x, gain, dx)
    launch(rung, "layer_norm_backward", plan, x, dy, *row_args, rows, columns)
    column_args = (dy, x, mean, inv_std)
    if rung is THREAD:
        plan = Layout.thread_a_row(columns)
        launch(rung, COLUMNS[0], plan, x, *column_args, dgain, dbias, rows, columns)
        return dx, dgain, dbias
    parts = min(PARTS, math.ceil(rows / DOWN))
    sums = partial_sums(rung, x, parts)
    plan = Layout((math.ceil(columns / ACROSS), parts), (ACROSS, DOWN))
    launch(rung, COLUMNS[0], plan, x, *column_args, *sums, rows, columns)
    sum_parts(rung, x, sums, dgain, dbias, {})
    return dx, dgain, dbias


def partial_sums(rung, x, parts):
    """Room for each part's sums of dgain and dbias: (parts, C) each."""
    with allocating(f"{rung}, backward"):
        return tuple(np.empty((parts, x.shape[1]), x.dtype, like=x) for _ in range(2))


def sum_parts(rung, x, sums, dgain, dbias, macros):
    parts, columns = sums[0].shape
    plan = Layout((math.ceil(columns / ACROSS),), (ACROSS, DOWN), macros)
    launch(rung, COLUMNS[1], plan, x, *sums, dgain, dbias, parts, columns)


def layout(rung, *arrays):
    """How a rung lays its threads over (N, C).

    Raises
    ------
    ValueError
        for rows that do not fit into the registers of rung 04.
    """
    rows, columns = arrays[0].shape
    if rung is THREAD:
        return Layout.thread_a_row(rows)
    if rung is BLOCK:
        return Layout.block_a_row(rows, columns)
    if rung is WARP:
        return Layout.warp_a_row(rows, columns)
    held = Layout.registers(rows, columns, *arrays, pieces=PIECES)
    if held is None:
        raise ValueError(f"x has rows of {columns} numbers: too long for the registers of {rung}")
    return held


def best_rung(*arrays):
    """The last rung whose registers hold such rows, else the one for rows of any length."""
    return REGISTERS if Layout.registers(*arrays[0].shape, *arrays, pieces=PIECES) else WARP


def layer_norm(x, gain, bias, *, eps=1e-5):
    check_reachable("layer_norm", x=x, gain=gain, bias=bias)
    check_shape("gain", gain, x.shape[-1:])
    check_shape("bias", bias, x.shape[-1:])
    rows = as_rows("x", x)  # (N, C)
    gain, bias = (np.ascontiguousarray(a, like=a) for a in (gain, bias))
    y, saved = forward(best_rung(rows, gain, bias), rows, gain, bias, eps=eps)
    return y.reshape(x.shape), saved


def layer_norm_backward(dy, cache):
    rows = as_rows("dy", dy)  # (N, C)
    dx, dgain, dbias = backward(best_rung(rows, *cache[:2]), rows, cache)
    return dx.reshape(dy.shape), dgain, dbias


register("layer_norm", "cupy", layer_norm, layer_norm_backward)

"""The softmax ladder, and the op softmax of the backend "cupy".

Every rung is launched in the same way, on CuPy arrays by a GPU, on NumPy arrays by the emulator:

    y = forward(rung, x)
    dx = backward(rung, y, dy)
"""

from pathlib import Path

import numpy as np

from minillm.ops._op import register
from minillm_kernels.cuda._rows import FLOATS, Layout, as_rows, check_reachable, launch
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = ["RUNGS", "backward", "best_rung", "forward", "softmax", "softmax_backward"]

HERE = Path(__file__).parent
KERNELS = ("softmax_forward", "softmax_backward")
THREAD = Rung(HERE / "01_thread_a_row.cu", KERNELS, dtypes=FLOATS)
BLOCK = Rung(HERE / "02_block_a_row.cu", KERNELS, dtypes=FLOATS, expects=("BAR.SYNC",))
WARP = Rung(HERE / "03_warp_shuffle.cu", KERNELS, dtypes=FLOATS, expects=("SHFL.BFLY",))
WIDE_LOADS = ("SHFL.BFLY", "LDG.E.128", "STG.E.128")
REGISTERS = Rung(HERE / "04_registers.cu", KERNELS, dtypes=FLOATS, expects=WIDE_LOADS)
ONLINE = Rung(HERE / "05_online.cu", KERNELS, dtypes=FLOATS, expects=WIDE_LOADS)
RUNGS = (THREAD, BLOCK, WARP, REGISTERS, ONLINE)


def forward(rung, x):
    """Softmax of each row by one rung of the ladder.

    Parameters
    ----------
    rung : one of RUNGS
    x : (N, C), C-contiguous

    Returns
    -------
    y : (N, C)

    Raises
    ------
    ValueError
        for a dtype, shape, stride or device that the rung cannot work with, before any launch.
    """
    check_array("x", x, dtype=("float32", "float64"), shape=(None, None))
    with allocating(f"{rung}, forward"):
        y = np.empty(x.shape, x.dtype, like=x)
    if x.shape[0]:
        launch(rung, "softmax_forward", layout(rung, x, y), x, x, y, *x.shape)
    return y


def backward(rung, y, dy):
    """The gradient of x by one rung; y, dy : (N, C), C-contiguous."""
    check_array("y", y, dtype=("float32", "float64"), shape=(None, None))
    check_array("dy", dy, dtype=y.dtype, shape=y.shape, like=y)
    with allocating(f"{rung}, backward"):
        dx = np.empty(y.shape, y.dtype, like=y)
    if y.shape[0]:
        launch(rung, "softmax_backward", layout(rung, y, dy, dx), y, y, dy, dx, *y.shape)
    return dx


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
    if rung is ONLINE:
        wide = Layout.vectors(rows, columns, *arrays)
        return Layout((rows,), (128,) if columns <= 1024 else wide.block, wide.macros)
    held = Layout.registers(rows, columns, *arrays)
    if held is None:
        raise ValueError(f"x has rows of {columns} numbers: too long for the registers of {rung}")
    return held


def best_rung(*arrays):
    """The last rung whose registers hold such rows, else the one for rows of any length."""
    return REGISTERS if Layout.registers(*arrays[0].shape, *arrays) else ONLINE


def softmax(x, *, axis=-1):
    check_reachable("softmax", x=x)
    moved = np.moveaxis(x, axis, -1)  # (..., C)
    rows = as_rows("x", moved)  # (N, C)
    y = forward(best_rung(rows), rows)
    return np.moveaxis(y.reshape(moved.shape), -1, axis), (y, axis)


def softmax_backward(dy, cache):
    y, axis = cache
    moved = np.moveaxis(dy, axis, -1)  # (..., C)
    dx = backward(best_rung(y), y, as_rows("dy", moved))
    return np.moveaxis(dx.reshape(moved.shape), -1, axis)


register("softmax", "cupy", softmax, softmax_backward)

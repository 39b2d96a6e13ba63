"""The ops rms_norm and add_rms_norm of the backend "cupy": one pass forward, one backward.

Rows too long for the registers run the NumPy reference on the same arrays.
"""

import math
from pathlib import Path

import numpy as np

from minillm.ops._op import check_shape, register
from minillm.ops._state import Registry
from minillm_kernels.cuda._rows import FLOATS, Layout, as_rows, check_reachable, launch
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = ["REGISTERS", "add_rms_norm", "add_rms_norm_backward", "rms_norm", "rms_norm_backward"]

REGISTERS = Rung(
    Path(__file__).parent / "01_registers.cu",
    ("rms_norm_forward", "rms_norm_backward", "rms_norm_gain"),
    dtypes=FLOATS,
    expects=("SHFL.BFLY", "LDG.E.128", "STG.E.128"),
)
PIECES = 4  # packs of 16 bytes that a thread keeps of each array
ACROSS, DOWN = 32, 8  # the block of the kernel that sums over rows
WALKERS = 1024  # blocks of the backward, each with a sum of its own of dgain


def rms_norm(x, gain, *, eps=1e-5):
    check_reachable("rms_norm", x=x, gain=gain)
    check_shape("gain", gain, x.shape[-1:])
    rows, gain = as_rows("x", x), np.ascontiguousarray(gain, like=gain)
    if layout(rows, gain) is None:
        y, saved = Registry.ops["rms_norm"]["numpy"][0](x, gain, eps=eps)
        return y, (False, saved)
    y, saved = forward(rows, gain, eps)
    return y.reshape(x.shape), (True, saved)


def rms_norm_backward(dy, cache):
    ours, saved = cache
    if not ours:
        return Registry.ops["rms_norm"]["numpy"][1](dy, saved)
    dx, dgain = backward(as_rows("dy", dy), saved)
    return dx.reshape(dy.shape), dgain


def add_rms_norm(x, residual, gain, *, eps=1e-5):
    check_reachable("add_rms_norm", x=x, residual=residual, gain=gain)
    check_shape("residual", residual, x.shape)
    check_shape("gain", gain, x.shape[-1:])
    a, b = as_rows("x", x), as_rows("residual", residual)  # (N, C)
    gain = np.ascontiguousarray(gain, like=gain)
    if layout(a, b, gain) is None:
        out, saved = Registry.ops["add_rms_norm"]["numpy"][0](x, residual, gain, eps=eps)
        return out, (False, saved, x.shape)
    (y, total), saved = forward(a, gain, eps, residual=b)
    return (y.reshape(x.shape), total.reshape(x.shape)), (True, saved, x.shape)


def add_rms_norm_backward(dout, cache):
    ours, saved, shape = cache
    if not ours:
        return Registry.ops["add_rms_norm"]["numpy"][1](dout, saved)
    dy, dtotal = (None if d is None else as_rows("dout", d) for d in dout)  # (N, C)
    dy = np.zeros_like(saved[0]) if dy is None else dy
    dx, dgain = backward(dy, saved, dtotal=dtotal)
    dx = dx.reshape(shape)
    return dx, dx, dgain


def forward(x, gain, eps, *, residual=None):
    """y (N, C), or (y, total) where a residual is given, and what `backward` needs."""
    rows, columns = x.shape
    check_array("x", x, dtype=tuple(FLOATS))
    check_array("gain", gain, dtype=x.dtype, like=x)
    if residual is not None:
        check_array("residual", residual, dtype=x.dtype, like=x)
    with allocating("rms_norm"):
        y = np.empty(x.shape, x.dtype, like=x)
        inv_rms = np.empty(rows, x.dtype, like=x)
        total = x if residual is None else np.empty(x.shape, x.dtype, like=x)
    given, adds = ((x,), {}) if residual is None else ((x, residual, total), {"ADD": 1})
    if rows:
        plan = layout(*given, gain, y)
        args = (*given, gain, y, inv_rms, rows, columns, x.dtype.type(eps))
        launch(REGISTERS, "rms_norm_forward", plan, x, *args, macros=adds)
    return y if residual is None else (y, total), (total, gain, inv_rms)


def backward(dy, saved, *, dtotal=None):
    """The gradients of x (N, C), that of total added if there is one, and of gain (C,)."""
    x, gain, inv_rms = saved
    rows, columns = x.shape
    for name, array in (("dy", dy), ("dtotal", dtotal)):
        if array is not None:
            check_array(name, array, dtype=x.dtype, shape=x.shape, like=x)
    with allocating("rms_norm_backward"):
        dx, dgain = np.empty(x.shape, x.dtype, like=x), np.zeros(columns, x.dtype, like=x)
        if rows == 0:
            return dx, dgain
        upstream, adds = ((dy,), {}) if dtotal is None else ((dy, dtotal), {"ADD": 1})
        plan = layout(*upstream, x, gain, dx)
        plan = Layout((min(plan.grid[0], WALKERS),), plan.block, plan.macros)
        parts = plan.grid[0] * (plan.block[1] if len(plan.block) > 1 else 1)
        sums = np.empty((parts, columns), x.dtype, like=x)
    args = (*upstream, x, gain, inv_rms, dx, sums, rows, columns)
    launch(REGISTERS, "rms_norm_backward", plan, x, *args, macros=adds)
    plan = Layout((math.ceil(columns / ACROSS),), (ACROSS, DOWN), plan.macros | adds)
    launch(REGISTERS, "rms_norm_gain", plan, x, sums, dgain, parts, columns)
    return dx, dgain


def layout(*arrays):
    """Threads over the rows of the first array; None where they are too long for registers."""
    return Layout.registers(*arrays[0].shape, *arrays, pieces=PIECES)


register("rms_norm", "cupy", rms_norm, rms_norm_backward)
register("add_rms_norm", "cupy", add_rms_norm, add_rms_norm_backward)

"""The op rotary of the backend "cupy": one kernel, which turns each pair of channels."""

import math
from pathlib import Path

import numpy as np

from minillm.ops._op import register
from minillm.ops._position import check_positions
from minillm_kernels.cuda.flash_attention import check_place, contiguous
from minillm_kernels.cuda.ladder import Rung, check_array, load
from minillm_kernels.memory import allocating

__all__ = ["TURN"]

TURN = Rung(
    Path(__file__).parent / "01_turn.cu",
    kernels=("turn",),
    dtypes={"float32": {}, "float64": {"REAL": "double"}},
)
THREADS = 256


def rotary(x, *, positions=None, base=10000.0):
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ValueError(f"x must have shape (B, H, T, D) with D even, got {x.shape}")
    check_place("x", x)
    check_array("x", x, dtype=tuple(TURN.dtypes), contiguous=False)
    positions = check_positions(positions, x)
    half = x.shape[-1] // 2
    speed = base ** (-np.arange(half, like=x) / half)  # (D/2,)
    angle = positions[:, None] * speed  # (T, D/2), in float64 as the reference has it
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    return turn(x, cos, sin, 1), (cos, sin, x.shape)


def rotary_backward(dy, cache):
    cos, sin, shape = cache
    check_array("dy", dy, dtype=cos.dtype, shape=shape, contiguous=False, like=cos)
    # forward: y = turn(x, angle); a rotation's transpose is the rotation by the opposite angle
    return turn(dy, cos, sin, -1)


def turn(x, cos, sin, sign):
    """Each pair of x's channels by its angle: (B, H, T, D), C-contiguous."""
    with allocating("rotary"):
        x, y = contiguous(x), np.empty(x.shape, x.dtype, like=x)
        pairs = x.size // 2
        if pairs:
            T, half = map(np.int64, cos.shape)
            args = (np.int64(pairs), x, cos, sin, y, T, half, x.dtype.type(sign))
            kernel = load(TURN, dtype=x.dtype.name, carrier=x).kernel("turn")
            kernel((math.ceil(pairs / THREADS),), (THREADS,), args)
    return y


register("rotary", "cupy", rotary, rotary_backward)

"""The op gelu of the backend "cupy": one pass forward, one backward."""

import math
from pathlib import Path

import numpy as np

from minillm.ops._op import register
from minillm_kernels.cuda._rows import FLOATS, Layout, check_reachable, launch, vector_width
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = ["VECTORISED", "gelu", "gelu_backward"]

VECTORISED = Rung(
    Path(__file__).parent / "01_vectorised.cu",
    ("gelu_forward", "gelu_backward"),
    dtypes=FLOATS,
    expects=("LDG.E.128", "STG.E.128"),
)
THREADS = 256


def gelu(x, *, approximate="none"):
    check_reachable("gelu", x=x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    check_array("x", x, dtype=tuple(FLOATS), contiguous=False)
    x = np.ascontiguousarray(x, like=x).reshape(x.shape)
    return elementwise("gelu_forward", approximate, x), (x, approximate)


def gelu_backward(dy, cache):
    x, approximate = cache
    check_array("dy", dy, dtype=x.dtype, shape=x.shape, contiguous=False, like=x)
    dy = np.ascontiguousarray(dy, like=dy).reshape(dy.shape)
    return elementwise("gelu_backward", approximate, x, dy)


def elementwise(kernel, approximate, *arrays):
    """Run a kernel over C-contiguous arrays of one shape; the result is of that shape too."""
    with allocating("gelu"):
        out = np.empty(arrays[0].shape, arrays[0].dtype, like=arrays[0])
    if out.size:
        vector = vector_width(out.size, *arrays, out)
        packs = out.size // vector
        macros = {"VECTOR": vector} | ({"TANH": 1} if approximate == "tanh" else {})
        plan = Layout((math.ceil(packs / THREADS),), (THREADS,), macros)
        launch(VECTORISED, kernel, plan, out, *arrays, out, np.int64(packs))
    return out


register("gelu", "cupy", gelu, gelu_backward)

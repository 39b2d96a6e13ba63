"""The matmul ladder: C = A @ B, an idea a rung, from one thread an element to wgmma and TMA.

    c = matmul(a, b, rung=VECTORISED)

runs on CuPy arrays on a GPU, and rungs 01 to 08 on NumPy arrays in the emulator. A rung's one idea,
its arithmetic and its budget of registers and shared memory stand at the top of its .cu file.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minillm_kernels.cuda.ladder import LADDERS, Rung, check_array, load
from minillm_kernels.cuda.matmul._tensor_map import tensor_map
from minillm_kernels.memory import allocating

__all__ = [
    "CLUSTER",
    "COALESCED",
    "MMA_SYNC",
    "NAIVE",
    "REGISTER_COLUMN",
    "REGISTER_TILE",
    "RUNGS",
    "SHARED_TILE",
    "VECTORISED",
    "WARP_TILE",
    "WGMMA",
    "WMMA",
    "matmul",
    "order_of",
]

HERE = Path(__file__).parent
HALVES = {"float16": {}, "bfloat16": {"BF16": "1"}}

NAIVE = Rung(HERE / "01_naive.cu", ("matmul",))
COALESCED = Rung(HERE / "02_coalesced.cu", ("matmul",))
SHARED_TILE = Rung(HERE / "03_shared_tile.cu", ("matmul",))
REGISTER_COLUMN = Rung(HERE / "04_register_column.cu", ("matmul",))
REGISTER_TILE = Rung(HERE / "05_register_tile.cu", ("matmul",))
VECTORISED = Rung(HERE / "06_vectorised.cu", ("matmul",), expects=("LDG.E.128", "LDS", "STG.E.128"))
WARP_TILE = Rung(HERE / "07_warp_tile.cu", ("matmul",), expects=("LDG.E.128", "LDS", "STG.E.128"))
WMMA = Rung(
    HERE / "08_wmma.cu",
    ("matmul",),
    dtypes=HALVES,
    dtype_arches={"bfloat16": ("sm_80", "sm_90")},
    expects=("HMMA",),
)
MMA_SYNC = Rung(
    HERE / "09_mma_sync.cu",
    ("matmul",),
    arches=("sm_80", "sm_90"),
    emulated=False,
    dtypes=HALVES,
    expects=("HMMA", "LDSM", "LDGSTS"),
)
WGMMA = Rung(
    HERE / "10_wgmma_tma.cu",
    ("matmul",),
    arches=("sm_90a",),
    emulated=False,
    dtypes=HALVES,
    expects=("HGMMA", "UTMALDG", "USETMAXREG"),
)
RUNGS = (
    NAIVE,
    COALESCED,
    SHARED_TILE,
    REGISTER_COLUMN,
    REGISTER_TILE,
    VECTORISED,
    WARP_TILE,
    WMMA,
    MMA_SYNC,
    WGMMA,
)


@dataclass(frozen=True)
class Tiling:
    """How a rung cuts C up: as its .cu file has it written."""

    rows: int
    columns: int
    block: tuple[int, ...]
    shared: int = 0  # bytes, beyond what the file declares


TILINGS = {
    NAIVE: Tiling(32, 8, (32, 8)),
    COALESCED: Tiling(8, 32, (32, 8)),
    SHARED_TILE: Tiling(32, 32, (32, 32)),
    REGISTER_COLUMN: Tiling(64, 64, (512,)),
    REGISTER_TILE: Tiling(128, 128, (256,)),
    VECTORISED: Tiling(128, 128, (256,)),
    WARP_TILE: Tiling(128, 128, (256,)),
    WMMA: Tiling(128, 128, (256,)),
    MMA_SYNC: Tiling(128, 256, (256,), shared=4 * (128 * 32 + 32 * 256) * 2),
    WGMMA: Tiling(128, 256, (384,), shared=4 * (128 * 64 + 64 * 256) * 2 + 64 + 1024),
}
LONGEST = 2**31 - 1024  # the kernels count in int, up to a tile further
WIDE = (MMA_SYNC, WGMMA)  # that move 16 bytes at a time, whatever happens
WGMMA_K, WGMMA_BOX, CLUSTER = 64, 64, 2


def matmul(a, b, *, rung=WARP_TILE, bias=None, out=None, accumulate=False):
    """Multiply two matrices by one rung of the ladder.

    Equation: out = a @ b + bias, or out += a @ b + bias

    Parameters
    ----------
    a : (M, K), float32 or float64 for rungs 01 to 07, float16 or bfloat16 from 08 on; CuPy or, for
        the emulator, NumPy. NumPy has no bfloat16: its bits come as uint16
    b : (K, N)
    rung : one of RUNGS, or its number or name
    bias : (N,) or None; rung 07 alone
    out : (M, N) or None, where to write
    accumulate : bool, add to `out` instead of overwriting it; rung 07 alone

    Returns
    -------
    out : (M, N), of a's dtype

    Raises
    ------
    ValueError
        for a dtype, shape, stride, alignment or device that the rung cannot work with, or more
        blocks than a grid may have; before any launch.
    """
    rung = rung if isinstance(rung, Rung) else LADDERS.find("matmul", rung)
    if rung is not WARP_TILE and (bias is not None or accumulate):
        raise ValueError(f"bias and accumulate are for {WARP_TILE}, got them with {rung}")
    check_array("a", a, shape=(None, None), contiguous=False)
    dtype = dtype_of(a, rung)
    check_array("b", b, dtype=a.dtype, shape=(a.shape[1], None), contiguous=False, like=a)
    M, K, N = *a.shape, b.shape[1]
    if max(M, N, K) > LONGEST:
        raise ValueError(f"a and b must be at most {LONGEST} long and wide, got {M, K} and {K, N}")
    if bias is not None:
        check_array("bias", bias, dtype=a.dtype, shape=(N,), like=a)
    if out is None:
        if accumulate:
            raise ValueError("accumulate=True adds to out, which is None")
        out = empty(M, N, rung, a)
    else:
        check_array("out", out, dtype=a.dtype, shape=(M, N), contiguous=False, like=a)
        for name, array in (("a", a), ("b", b), ("bias", bias)):
            if array is not None and np.may_share_memory(array, out):
                raise ValueError(
                    f"out shares memory with {name}, which is read while it is written"
                )
    macros = {"BIAS": "1"} if bias is not None else {}
    macros |= {"ACCUMULATE": "1"} if accumulate else {}
    macros |= {"REAL": "double"} if dtype == "float64" else {}
    strides = []
    for name, array in (("a", a), ("b", b), ("out", out)):
        stride, transposed = rows_of(name, array, rung)
        if transposed and name == "out":
            raise ValueError(f"out must lie row by row, got strides {out.strides} bytes")
        if transposed:
            macros[f"{name.upper()}_TRANSPOSED"] = "1"
        strides.append(stride)
    # As they lie: the kernel is told by its macros.
    a, b = (x.T if f"{n}_TRANSPOSED" in macros else x for n, x in (("A", a), ("B", b)))
    if 0 in out.shape:
        return out
    if K == 0:  # sums of nothing
        if not accumulate:
            out[...] = 0
        if bias is not None:
            out += bias
        return out
    loaded = load(rung, dtype=None if dtype == "float64" else dtype, macros=macros, carrier=a)
    launch(loaded.kernel("matmul"), rung, dtype, (a, b, out, bias), (M, N, K), strides)
    return out


def launch(kernel, rung, dtype, arrays, sizes, strides):
    """Give a kernel its grid and its arguments."""
    a, b, out, bias = arrays
    M, N, _ = sizes
    tiling = TILINGS[rung]
    rows, columns = math.ceil(M / tiling.rows), math.ceil(N / tiling.columns)
    numbers = [np.int32(n) for n in sizes]
    if rung is WGMMA:
        maps = (
            tensor_map(a, dtype, strides[0], box=(tiling.rows, WGMMA_K)),
            tensor_map(b, dtype, strides[1], box=(WGMMA_K, WGMMA_BOX)),
        )
        # Whole clusters, of blocks with tiles below each other; each stays for many tiles.
        clusters = min(math.ceil(rows / CLUSTER) * columns, multiprocessors(a) // CLUSTER)
        grid = (clusters * CLUSTER,)
        args = (*maps, out, *numbers, np.int64(strides[2]))
    else:
        grid = (rows * columns,) if rung is MMA_SYNC else (columns, rows)
        args = (a, b, out, *numbers, *map(np.int64, strides))
        if bias is not None:
            args += (bias,)
    kernel(grid, tiling.block, args, shared_mem=tiling.shared)


def dtype_of(a, rung):
    """The name of a's dtype as the rung's macros know it.

    Raises
    ------
    ValueError
    """
    name = "bfloat16" if a.dtype == np.uint16 and "bfloat16" in rung.dtypes else a.dtype.name
    known = (*rung.dtypes, *(["float64"] if "float32" in rung.dtypes else []))
    if name not in known:
        raise ValueError(f"a must be {' or '.join(known)} for {rung}, got {a.dtype}")
    return name


def empty(M, N, rung, like):
    """A new C; for the rungs that want it, with rows that start at multiples of 16 bytes."""
    width = math.ceil(N / 8) * 8 if rung in WIDE else N
    with allocating(f"the product of {rung}", M * width * like.dtype.itemsize):
        return np.empty((M, width), like.dtype, like=like)[:, :N]


def order_of(array):
    """How a matrix lies: (elements from one row to the next, whether it lies transposed), or None.

    A transposed matrix's rows are the columns that one sees. Rows may have gaps between them, but
    not inside, and may not overlap.
    """
    size = array.dtype.itemsize
    if array.size == 0:  # NumPy gives no strides that mean something
        return max(array.shape[1], 1), False
    for transposed in (False, True):
        (outer, inner), (far, near) = array.shape, array.strides
        if transposed:
            outer, inner, far, near = inner, outer, near, far
        if inner > 1 and near != size:
            continue
        if outer <= 1:
            return max(inner, 1), transposed
        if far >= inner * size and far % size == 0:
            return far // size, transposed
    return None


def rows_of(name, array, rung):
    """`order_of` an argument, refused where the rung cannot take it.

    Raises
    ------
    ValueError
    """
    order = order_of(array)
    if order is None or (order[1] and rung is not WARP_TILE):
        raise ValueError(
            f"{name} must have contiguous rows that do not overlap for {rung}, "
            f"got strides {array.strides} bytes; numpy.ascontiguousarray copies it into such"
        )
    if rung in WIDE:
        size = array.dtype.itemsize
        stride, start = order[0] * size, address_of(array)
        if array.shape[0] == 1:  # no second row: let it start where it pleases
            order, stride = (math.ceil(order[0] / 8) * 8, False), 0
        if stride % 16 or start % 16:
            raise ValueError(
                f"{name} must start, and start every row, at a multiple of 16 bytes for {rung}, "
                f"got address {start:#x} and {stride} bytes from row to row"
            )
    return order


def address_of(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def multiprocessors(array):
    return _multiprocessors(int(array.device.id))


@functools.cache
def _multiprocessors(device):
    import cupy

    return cupy.cuda.Device(device).attributes["MultiProcessorCount"]

"""What the ladders over rows share: an array seen as rows, and how threads are laid over them."""

import math
from dataclasses import dataclass, field

import numpy as np

from minillm_kernels.cuda.ladder import load
from minillm_kernels.require import emulated

__all__ = ["FLOATS", "Layout", "as_rows", "check_reachable", "launch"]

FLOATS = {"float32": {}, "float64": {"REAL": "double"}}  # a rung's dtypes: what to define for each
NARROW = 1024  # numbers in the longest row that a single warp takes
MOST_THREADS = 512  # of a block that keeps rows in registers
MOST_PIECES = 8  # packs of 16 bytes that a thread keeps


@dataclass(frozen=True)
class Layout:
    """Threads over rows, and what to define when the rung is compiled for them.

    Attributes
    ----------
    grid, block : of the launch
    macros : {name: value}
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    macros: dict[str, int] = field(default_factory=dict)

    @classmethod
    def thread_a_row(cls, rows):
        return cls((math.ceil(rows / 128),), (128,))

    @classmethod
    def block_a_row(cls, rows, columns):
        """As many threads as columns, rounded up to a power of two, from 32 to 256."""
        return cls((rows,), (min(256, max(32, 1 << (columns - 1).bit_length())),))

    @classmethod
    def warp_a_row(cls, rows, columns):
        """A warp for a narrow row, a block of eight warps for a wide one."""
        if columns <= NARROW:
            return cls((math.ceil(rows / 4),), (32, 4))
        return cls((rows,), (256,))

    @classmethod
    def vectors(cls, rows, columns, *arrays):
        """As `warp_a_row`, reading 16 bytes at a time where the rows allow it."""
        plain = cls.warp_a_row(rows, columns)
        block = plain.block if columns <= NARROW else (MOST_THREADS,)
        return cls(plain.grid, block, {"VECTOR": vector_width(columns, *arrays)})

    @classmethod
    def registers(cls, rows, columns, *arrays, pieces=MOST_PIECES):
        """Rows that are kept in registers, at most `pieces` packs a thread; None if too long."""
        vector = vector_width(columns, *arrays)
        packs = columns // vector
        if packs <= 32 * pieces:
            grid, block = (math.ceil(rows / 4),), (32, 4)
        else:
            threads = 32 * math.ceil(packs / 4 / 32)  # about 4 packs each, while threads last
            grid, block = (rows,), (min(threads, MOST_THREADS),)
        held = math.ceil(packs / block[0])
        return cls(grid, block, {"VECTOR": vector, "PIECES": held}) if held <= pieces else None


def launch(rung, kernel, layout, carrier, *args, macros=None):
    """Run one kernel of a rung; Python's whole numbers become C's int."""
    given = {**layout.macros, **(macros or {})}
    loaded = load(rung, dtype=carrier.dtype.name, macros=given, carrier=carrier)
    args = tuple(np.int32(a) if isinstance(a, int) else a for a in args)
    loaded.kernel(kernel)(layout.grid, layout.block, args)


def vector_width(columns, *arrays):
    """How many numbers fit into 16 bytes, if every row of every array begins at such a place."""
    width = 16 // arrays[0].dtype.itemsize
    fits = columns % width == 0 and all(address(a) % 16 == 0 for a in arrays)
    return width if fits else 1


def address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def as_rows(name, array):
    """An array (..., C) as C-contiguous rows (N, C) that start at a multiple of 16 bytes.

    It is copied only where it lies otherwise. Rows that could not be read 16 bytes at a time would
    take more registers than there are.

    Raises
    ------
    ValueError
        for rows of no number, or more rows or columns than an int can count.
    """
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} must have rows of at least one number, got shape {array.shape}")
    columns = array.shape[-1]
    rows = array.size // columns
    if max(rows, columns) >= 2**31:
        raise ValueError(f"{name} must have fewer than 2**31 rows and columns, got {array.shape}")
    array = np.ascontiguousarray(array, like=array)
    array = array if address(array) % 16 == 0 else array.copy()
    return array.reshape(rows, columns)


def check_reachable(op_name, **arrays):
    """Refuse arrays in the computer's memory where the kernels run on a GPU.

    Raises
    ------
    ValueError
        naming the argument and what to do.
    """
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and not emulated():
            raise ValueError(
                f"{op_name}: {name} is a NumPy array, in the computer's memory, but the cupy "
                "kernels run on a GPU: send it there with cupy.asarray(array)"
            )

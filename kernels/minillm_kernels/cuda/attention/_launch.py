"""One attention, ready to be launched: its arrays, sizes and mask as the kernels take them."""

import functools
import math

import numpy as np

from minillm_kernels.cuda.ladder import load

THREADS = 256  # of a block, where a kernel knows only threads
WARPS = 4  # of a block, where it knows only warps


class Launch:
    """What the kernels of one attention share.

    Attributes
    ----------
    sizes : H, G, T, S
    diagonal : int, query t sees the keys s <= t + diagonal
    mask : the array and the strides of its four axes, in elements
    given, pairs : what the kernels of rung 02 and above start and end with
    macros : {name: value} that the kernels are compiled with
    """

    def __init__(self, rung, q, k, v, causal, mask, scale, macros):
        self.rung, self.q, self.k, self.v = rung, q, k, v
        (self.B, self.H, self.T, self.D), (_, self.G, self.S, self.V) = q.shape, v.shape
        if self.T + self.S >= 2**31:
            raise ValueError(
                f"queries and keys must be fewer than 2**31, got {self.T} and {self.S}"
            )
        self.real = np.float64 if q.dtype == np.float64 else np.float32
        self.scale = self.real(1 / math.sqrt(self.D) if scale is None else scale)
        self.diagonal = self.S - self.T if causal else self.S - 1
        self.sizes = (self.H, self.G, self.T, self.S)
        self.macros = {**macros, "MASK": int(mask is not None)}
        unread = np.empty((1,) * 4, bool, like=q)
        self.mask = strided(unread if mask is None else mask)
        self.given = (q, k, v, *self.mask)
        self.pairs = (*self.sizes, self.diagonal, self.scale)

    def threads(self, kernel, count, *args):
        """A thread for each of `count` things; the kernel's first argument is the count."""
        self.blocks(kernel, math.ceil(count / THREADS), (THREADS,), np.int64(count), *args)

    def warps(self, kernel, count, *args):
        """A warp for each of `count` rows; the kernel's first argument is the count."""
        self.blocks(kernel, math.ceil(count / WARPS), (32, WARPS), np.int64(count), *args)

    def blocks(self, kernel, count, block, *args):
        """Launch `count` blocks; Python's whole numbers become C's int."""
        args = tuple(np.int32(a) if isinstance(a, int) else a for a in args)
        self._loaded.kernel(kernel)((count,), block, args)

    @functools.cached_property
    def _loaded(self):
        dtype = "bfloat16" if self.q.dtype == np.uint16 else self.q.dtype.name
        return load(self.rung, dtype=dtype, macros=self.macros, carrier=self.q)


def strided(mask):
    """(mask, step along each axis): an axis that is broadcast has length 1 here and step 0."""
    mask = mask[tuple(slice(0, 1) if step == 0 else slice(None) for step in mask.strides)]
    mask = np.ascontiguousarray(mask, like=mask)
    pairs = zip(mask.strides, mask.shape, strict=True)
    return mask, *(np.int64(0 if length == 1 else step) for step, length in pairs)

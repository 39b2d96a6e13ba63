"""The norm of all gradients together and the factor that clips it (Pascanu, Mikolov & Bengio 2013,
arXiv:1211.5063, algorithm 1), on the GPU and always in the same order.

Two launches, however many tensors there are: each program squares and adds up a chunk, in float32;
one program adds the chunks' sums up in float64. Every gradient is read once; nothing is read back,
so that a captured graph can clip.
"""

import contextlib
import functools
import math

import torch
import triton
import triton.language as tl

from minillm.optim._optimizer import check_setting
from minillm_kernels.arrays import check_grid
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._lists import AddressTables, aligned, chunks_of, named_tensors
from minillm_kernels.triton._rows import accumulator, check_type, power_of_two
from minillm_kernels.triton._sums import TL

__all__ = ["GlobalNorm", "global_norm"]

BLOCK, BLOCKS = 4096, 8  # elements read at once by a program, and how many times


@triton.jit
def sum_squares(
    table,
    chunks,
    parts,
    first_part,
    TYPE: tl.constexpr,
    ALIGNED: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """The sum of the squares of one chunk. table: (address, size) of each tensor."""
    program = tl.program_id(0)
    which = tl.load(chunks + 2 * program)
    start = tl.load(chunks + 2 * program + 1).to(tl.int64) * (BLOCK * BLOCKS)
    values = tl.load(table + 2 * which).to(tl.pointer_type(TYPE))
    if ALIGNED:
        values = tl.multiple_of(values, 16)
    size = tl.load(table + 2 * which + 1)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), ACC)
    if start + BLOCK * BLOCKS <= size:  # without masks the reads are 16 bytes wide
        for block in tl.static_range(BLOCKS):
            value = tl.load(values + start + block * BLOCK + lanes).to(ACC)
            total += value * value
    else:
        for at in tl.range(start, size, BLOCK):
            value = tl.load(values + at + lanes, mask=at + lanes < size, other=0).to(ACC)
            total += value * value
    tl.store(parts + first_part + program, tl.sum(total, 0))


@triton.jit
def norm_and_scale(parts, out, n_parts, MAX_NORM: tl.constexpr, BLOCK: tl.constexpr):
    """out[0]: the norm; out[1]: what brings it down to MAX_NORM. In one program, in float64."""
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    for start in tl.range(0, n_parts, BLOCK):
        total += tl.load(parts + start + lanes, mask=start + lanes < n_parts, other=0)
    norm = tl.sqrt(tl.sum(total, 0))
    tl.store(out, norm)
    # minillm.optim.clip_scale; where the norm is nan the comparison fails, and the scale is 1.
    ratio = MAX_NORM / (norm + 1e-6)
    tl.store(out + 1, tl.where(ratio < 1.0, ratio, 1.0))


class GlobalNorm:
    """The norm of a nest of gradients; keeps its tables from call to call."""

    def __init__(self):
        self._tables, self._chunks = {}, {}

    def __call__(self, grads, max_norm=None):
        """Compute the norm and the clip factor.

        Parameters
        ----------
        grads : nest of arrays on the GPU; float16, bfloat16, float32 or float64
        max_norm : float, or None for a factor of 1

        Returns
        -------
        norm, scale : float64 tensors of no axes, on the GPU. A sum of squares that overflows
            gives inf and a scale of 0; where a gradient is nan the norm is nan and the scale 1.
        """
        if max_norm is not None:
            check_setting("max_norm", max_norm, max_norm > 0, "above 0")
        tensors = [t for t in named_tensors("global_norm", grads).values() if t.numel()]
        check_type("global_norm", **{f"gradient {i}": t for i, t in enumerate(tensors)})
        if not tensors:
            return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        device = tensors[0].device
        tensors = [t.contiguous() for t in tensors]
        groups = {}
        for tensor in tensors:
            groups.setdefault(tensor.dtype, []).append(tensor)
        chunks = {dtype: self._cut(dtype, group) for dtype, group in groups.items()}
        n_parts = sum(chunk.n for chunk in chunks.values())
        exact = torch.float64 if torch.float64 in groups else torch.float32
        parts = torch.empty(n_parts, dtype=exact, device=device)
        out = torch.empty(2, dtype=torch.float64, device=device)
        check_grid("global_norm", (n_parts,))
        first = 0
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            for dtype, group in groups.items():
                n = chunks[dtype].n
                sum_squares[(n,)](
                    self._table(dtype, group),
                    chunks[dtype].table,
                    parts,
                    first,
                    TYPE=TL[dtype],
                    ALIGNED=aligned(group),
                    ACC=accumulator(dtype),
                    BLOCK=BLOCK,
                    BLOCKS=BLOCKS,
                    num_warps=8,
                )
                first += n
            norm_and_scale[(1,)](
                parts,
                out,
                n_parts,
                MAX_NORM=math.inf if max_norm is None else float(max_norm),
                BLOCK=min(4096, power_of_two(n_parts)),
                num_warps=8,
            )
        return out[0], out[1]

    def _cut(self, dtype, group):
        sizes = (str(group[0].device), *(t.numel() for t in group))
        if self._chunks.get(dtype, (None,))[0] != sizes:
            cut = chunks_of(sizes[1:], BLOCK * BLOCKS, group[0].device)
            self._chunks[dtype] = sizes, cut
        return self._chunks[dtype][1]

    def _table(self, dtype, group):
        numbers = tuple(n for t in group for n in (t.data_ptr(), t.numel()))
        tables = self._tables.get(dtype)
        if tables is None or tables.length != len(numbers) or tables.device != group[0].device:
            tables = self._tables[dtype] = AddressTables(len(numbers), group[0].device)
        return tables.get(numbers)


@functools.cache
def _shared():
    return GlobalNorm()


def global_norm(grads, *, pool=None):
    """The Euclidean norm of all leaves together, a float, as minillm.optim.global_norm gives it.

    It is read back from the GPU: the norm of a captured graph is `GlobalNorm()(grads)`.
    pool : is for the CPU, and not used
    """
    return float(_shared()(grads)[0])


def configurations():
    """What the launchers compile."""
    found = []
    for kind, type_ in (("fp32", tl.float32), ("bf16", tl.bfloat16)):
        types = {"table": "*i64", "chunks": "*i32", "parts": "*fp32", "first_part": "i32:16"}
        constants = {"TYPE": type_, "ALIGNED": True, "ACC": tl.float32}
        constants |= {"BLOCK": BLOCK, "BLOCKS": BLOCKS}
        arches = (75, 80, 90) if kind == "fp32" else (80, 90)
        known = {"arches": arches, "expects": ("vector loads",)}
        found.append(Configuration(f"squares {kind}", sum_squares, types, constants, 8, **known))
    types = {"parts": "*fp32", "out": "*fp64", "n_parts": "i32"}
    constants = {"MAX_NORM": 1.0, "BLOCK": 4096}
    found.append(Configuration("norm_and_scale", norm_and_scale, types, constants, 8))
    return found

"""Tile sizes of the attention kernels: where the offline compiler found no spills.

The tiny ones are for products without tensor cores, whose factors must fit into registers: those of
float32 as it is, and all of a T4, for which Triton has no tensor cores (there heads of 128 spill in
backward). The small ones are for any other problem, masks and biases too; the rest for 16-bit
numbers on an A100 or, read by the copy engine, on an H100.
"""

from minillm_kernels.triton._tune import Choice

__all__ = ["FORWARD", "KEY", "KEYS", "QUERIES"]

TINY, SMALL = (75, 80, 90), (80, 90)
ALL, NARROW, WIDE = (16, 32, 64, 80, 96, 128), (16, 32, 64), (128,)  # widths D0 + D1 of heads
KEY = ["size_class", "CAUSAL", "D0", "D1", "TMA", "EXPLICIT", "MASK", "PRECISION"]


def _choice(sizes, warps, stages, heads=ALL, fused=ALL, arches=(90,)):
    def fits(arguments, arch):
        q = arguments["q"].base if arguments["TMA"] else arguments["q"]
        full = q.dtype.itemsize > 2
        scalar = arch == 75 or (full and arguments["PRECISION"] == "ieee")
        if scalar or arches == TINY:
            return scalar and arches == TINY
        slow = arguments["EXPLICIT"] or arguments["MASK"] or full
        plain = slow or not arguments["TMA"]
        if stages == 1:
            return plain
        width = arguments["D0"] + arguments["D1"]
        served = width in (fused if arguments.get("FUSED") else heads) and not slow
        return served and (arch == 80 or arches == SMALL or not plain)

    return Choice(sizes, warps, stages, arches, fits)


def _forward(block_t, block_s, overlap, *rest, **limits):
    return _choice({"BLOCK_T": block_t, "BLOCK_S": block_s, "OVERLAP": overlap}, *rest, **limits)


def _keys(block_t, block_s, one_loop, *rest, **limits):
    return _choice({"BLOCK_T": block_t, "BLOCK_S": block_s, "ONE_LOOP": one_loop}, *rest, **limits)


def _queries(block_t, block_s, *rest, **limits):
    return _choice({"BLOCK_T": block_t, "BLOCK_S": block_s}, *rest, **limits)


FORWARD = [
    _forward(64, 64, False, 4, 2, arches=SMALL),
    _forward(64, 32, False, 4, 1, arches=SMALL),
    _forward(16, 32, False, 4, 1, arches=TINY),
    _forward(128, 64, False, 8, 2, arches=(80,)),
    _forward(128, 128, True, 8, 2),
    _forward(128, 64, True, 8, 2),
    _forward(64, 64, True, 4, 2),
    _forward(128, 128, False, 8, 2),
    _forward(128, 64, False, 8, 3),
    _forward(64, 128, True, 4, 2, NARROW),
    _forward(128, 64, False, 4, 3, NARROW),
]
KEYS = [
    _keys(64, 64, True, 8, 2, NARROW + WIDE, NARROW + WIDE, arches=SMALL),
    _keys(64, 64, True, 4, 2, NARROW, NARROW),
    _keys(32, 64, True, 8, 1, arches=SMALL),
    _keys(16, 32, True, 4, 1, arches=TINY),
    _keys(64, 128, True, 8, 2, fused=NARROW),
    _keys(128, 128, True, 8, 2, NARROW, ()),
    _keys(64, 128, False, 8, 2, NARROW, NARROW),
    _keys(64, 128, True, 8, 3, NARROW, NARROW),
    _keys(128, 64, True, 4, 2, NARROW, ()),
]
QUERIES = [
    _queries(64, 64, 4, 2, NARROW, arches=SMALL),
    _queries(64, 64, 8, 2, WIDE, arches=SMALL),
    _queries(32, 32, 4, 1, arches=SMALL),
    _queries(16, 32, 4, 1, arches=TINY),
    _queries(128, 64, 8, 2),
    _queries(128, 64, 8, 3),
    _queries(64, 128, 4, 2),
    _queries(128, 128, 8, 2, NARROW),
    _queries(128, 64, 4, 2, NARROW),
]

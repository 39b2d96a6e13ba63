"""Tile sizes of the attention kernels: where the offline compiler found no spills.

Two for any GPU, small enough for a T4's 64 KB of shared memory, and for float32, masks and biases;
the others for 16-bit numbers on an A100 or, read by the copy engine, on an H100.
"""

from minillm_kernels.triton._tune import Choice

__all__ = ["FORWARD", "KEY", "KEYS", "QUERIES"]

SMALL = (75, 80, 90)
ALL, NARROW = (16, 32, 64, 128), (16, 32, 64)  # widths D0 of heads
KEY = ["size_class", "CAUSAL", "D0", "D1", "TMA", "EXPLICIT", "MASK", "PRECISION"]


def _choice(sizes, warps, stages, heads=ALL, fused=(True, False), arches=(90,)):
    def fits(arguments, arch):
        q = arguments["q"].base if arguments["TMA"] else arguments["q"]
        slow = arguments["EXPLICIT"] or arguments["MASK"] or q.dtype.itemsize > 2
        if arches == SMALL:
            return slow or not arguments["TMA"] if sizes["BLOCK_S"] == 32 else not slow
        return (
            not slow
            and arguments["D0"] in heads
            and arguments.get("FUSED", False) in fused
            and not (arch == 90 and not arguments["TMA"])
        )

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
    _keys(64, 64, True, 4, 2, arches=SMALL),
    _keys(32, 32, True, 4, 1, arches=SMALL),
    _keys(64, 128, True, 8, 2),
    _keys(64, 64, True, 8, 2, (128,)),
    _keys(128, 128, True, 8, 2, NARROW),
    _keys(64, 128, False, 8, 2, NARROW),
    _keys(64, 128, True, 8, 3, NARROW),
    _keys(128, 64, True, 4, 2, NARROW, (False,)),
]
QUERIES = [
    _queries(64, 64, 4, 2, arches=SMALL),
    _queries(32, 32, 4, 1, arches=SMALL),
    _queries(128, 64, 8, 2),
    _queries(128, 64, 8, 3),
    _queries(64, 128, 4, 2),
    _queries(128, 128, 8, 2, NARROW),
    _queries(128, 64, 4, 2, NARROW),
]

"""The configurations of the product's kernels, and which of them serve which arrays."""

import torch

from minillm_kernels.triton._compile import SHARED_LIMIT
from minillm_kernels.triton._persistent import persistent
from minillm_kernels.triton._plain import plain
from minillm_kernels.triton._tune import Choice, autotune

__all__ = [
    "HALVES",
    "STREAM",
    "STREAM_STAGES",
    "STREAM_WARPS",
    "anywhere",
    "half_precision",
    "tf32",
]

HALVES = (torch.float16, torch.bfloat16)

# One choice for stream_k, because its parts are laid out by it.
STREAM = {"BM": 128, "BN": 256, "BK": 64, "GROUP": 8}
STREAM_WARPS, STREAM_STAGES = 8, 3


def shared_bytes(arguments, constants, stages):
    """What a choice of `persistent` asks for: the stages, and the way in and out of the rest."""
    bm, bn, bk = constants["BM"], constants["BN"], constants["BK"]
    ways = arguments["c"].element_size()
    if arguments["READS_OTHER"]:
        ways += arguments["other"].element_size()
    in_stages = stages * (bm + bn) * bk * arguments["a"].element_size()
    return in_stages + bm * bn // constants["SUBTILES"] * ways + 1024  # barriers, descriptors


def fits(constants, stages):
    def check(arguments, arch):
        undivided = arguments["HAS_SUMS"] or arguments["READS_OTHER"] or arguments["ADD"]
        if constants["SPECIALIZE"] and undivided:
            return False  # Triton's compiler crashes on those in groups of warps
        by_erf = "dgelu_none", "gelu_none" if constants["SPECIALIZE"] else None
        if arguments["EPILOGUE"] in by_erf and constants["BM"] * constants["BN"] > 128 * 128:
            return False  # erf and exp beside so many sums do not fit into the registers
        return shared_bytes(arguments, constants, stages) <= SHARED_LIMIT[90]

    return check


def tiles(bm, bn, bk, stages, *, specialize=False, subtiles=1, group=8):
    """A Choice of `persistent`: one warp loads for eight, or eight do everything."""
    sizes = {"BM": bm, "BN": bn, "BK": bk, "GROUP": group}
    sizes |= {"SUBTILES": subtiles, "SPECIALIZE": specialize}
    warps = 4 if specialize else 8
    return Choice(sizes, warps, stages, (90,), fits(sizes, stages))


def written(arguments):
    """The arrays whose values before a launch matter after it."""
    return [name for name, used in (("c", "ADD"), ("sums", "HAS_SUMS")) if arguments[used]]


half_precision = autotune(
    [
        tiles(128, 256, 64, 3, specialize=True),
        tiles(128, 256, 64, 3, specialize=True, group=16),
        tiles(256, 128, 64, 3, specialize=True),
        tiles(128, 128, 64, 4, specialize=True),
        tiles(128, 256, 64, 4, subtiles=2),
        tiles(128, 256, 64, 3, subtiles=2),
        tiles(128, 256, 64, 3, subtiles=2, group=16),
        tiles(256, 128, 64, 3, subtiles=2),
        tiles(128, 128, 64, 4),
        tiles(128, 128, 128, 3, subtiles=2),
        tiles(128, 128, 64, 4, subtiles=2),  # leaves room for float32 in and out, of "add"
        tiles(128, 256, 64, 2, subtiles=2),
    ],
    key=["M~", "N", "K", "A_T", "B_T", "EPILOGUE", "HAS_BIAS", "KEEP", "HAS_SUMS", "ADD"],
    restore=written,
)(persistent)
tf32 = autotune(
    [tiles(128, 128, 32, 4, subtiles=2), tiles(128, 128, 32, 3, subtiles=2, group=16)],
    key=half_precision.key,
    restore=written,
)(persistent)


def small(bm, bn, bk, warps, stages, arches, fits):
    return Choice({"BM": bm, "BN": bn, "BK": bk, "GROUP": 8}, warps, stages, arches, fits)


def on_tensor_cores(arguments, arch):
    """Two bytes a number or tf32, and an architecture whose tensor cores Triton knows."""
    half = arguments["a"].dtype in HALVES
    return arch >= 80 and (half or arguments["PRECISION"] == "tf32")


def few_rows(arguments, arch):
    return on_tensor_cores(arguments, arch) and arguments["M"] <= 32


def many_rows(arguments, arch):
    return on_tensor_cores(arguments, arch) and arguments["M"] > 32


def half_many_rows(arguments, arch):
    return many_rows(arguments, arch) and arguments["a"].dtype in HALVES


def on_plain_cores(arguments, arch):
    return not on_tensor_cores(arguments, arch)


anywhere = autotune(
    [
        small(64, 64, 64, 4, 3, (80, 90), many_rows),
        small(128, 128, 32, 8, 4, (80, 90), many_rows),
        small(128, 128, 32, 4, 4, (80, 90), half_many_rows),
        small(128, 256, 32, 8, 3, (80, 90), half_many_rows),
        small(16, 64, 64, 4, 3, (80, 90), few_rows),
        small(16, 128, 64, 4, 3, (80, 90), few_rows),
        small(64, 64, 16, 8, 2, (75, 80, 90), on_plain_cores),
        small(32, 64, 16, 4, 2, (75, 80, 90), on_plain_cores),
        small(16, 32, 16, 4, 2, (75, 80, 90), on_plain_cores),
    ],
    key=["M~", "N", "K", "stride_ak", "stride_bn", "PRECISION", "EPILOGUE", "SPLITS", "ADD"],
    restore=written,
)(plain)

"""The configurations of the product's kernels that are compiled without a GPU.

Every choice once, and every layout, epilogue and dtype once with a choice that serves it.
"""

import torch
import triton.language as tl

from minillm_kernels.triton._choices import (
    STREAM,
    STREAM_STAGES,
    STREAM_WARPS,
    anywhere,
    half_precision,
    tf32,
)
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._epilogue import READS_OTHER
from minillm_kernels.triton._persistent import add_parts, persistent, stream_k
from minillm_kernels.triton._plain import plain
from minillm_kernels.triton._sums import sum_rows

__all__ = ["product_configurations"]

BLOCKS = 132  # of an H100
NO_BFLOAT16 = {75: "bfloat16 needs compute capability 8.0"}
SIZES = {"M": "i32", "N": "i32:16", "K": "i32:16"}
TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Like:
    """What a choice's `fits` asks of a tensor, without one."""

    def __init__(self, dtype):
        self.dtype = TORCH[dtype]

    def element_size(self):
        return self.dtype.itemsize


def product_configurations():
    """list of Configuration"""
    return [*_persistent(), *_stream_k(), *_plain(), *_sums()]


def _persistent():
    # Choices that differ in the order of their tiles alone have the same code.
    every = [("", choice, {}) for choice in half_precision.choices if "GROUP=8" in choice.name]
    special, small, large, square = (half_precision.choices[i] for i in (0, 3, 5, 8))
    variants = [
        ("NT", special, {"B_T": True}),
        ("TN", special, {"A_T": True}),
        ("TN into float32", small, {"A_T": True, "out": "fp32"}),
        ("TN added to float32", large, {"A_T": True, "out": "fp32", "ADD": True}),
        ("fp16", large, {"dtype": "fp16"}),
        ("bias", special, {"bias": True}),
        ("bias, gelu kept", special, {"bias": True, "EPILOGUE": "gelu_tanh", "KEEP": True}),
        ("bias, gelu by erf kept", large, {"bias": True, "EPILOGUE": "gelu_none", "KEEP": True}),
        ("NT dgelu and its sums", large, {"B_T": True, "EPILOGUE": "dgelu_tanh", "sums": True}),
        ("NT dgelu by erf", square, {"B_T": True, "EPILOGUE": "dgelu_none", "sums": True}),
        ("gated by silu, kept", large, {"EPILOGUE": "swiglu", "KEEP": True}),
    ]  # fmt: skip
    added = {"bias": True, "EPILOGUE": "add", "out": "fp32"}
    variants += [
        ("bias, added to float32", choice, added) for choice in half_precision.choices[10:]
    ]
    variants += [("tf32 NN", tf32.choices[0], {"dtype": "fp32"})]
    variants += [("tf32 TN", tf32.choices[0], {"dtype": "fp32", "A_T": True})]
    variants += [("tf32 NT", tf32.choices[0], {"dtype": "fp32", "B_T": True})]
    for what, choice, options in every + variants:
        made = dict(options)
        dtype = made.pop("dtype", "bf16")
        types, constants = _arrays(dtype, made)
        constants |= {"A_T": False, "B_T": False, "ADD": False, "PROGRAMS": BLOCKS} | made
        constants |= {"PRECISION": "tf32" if dtype == "fp32" else "ieee"} | choice.constants
        types |= SIZES | dict.fromkeys(("stride_a", "stride_b", "stride_c"), "i32:16")
        _claim_fit(choice, constants, types)
        expects = ("wgmma", "tma") if made.get("ADD") else ("wgmma", "tma", "tma store")
        expects += ("warp_specialize",) if choice.constants["SPECIALIZE"] else ()
        yield Configuration(
            f"persistent {what} {choice.name}".replace("  ", " "), persistent, types, constants,
            choice.num_warps, choice.num_stages, (90,), expects=expects,
        )  # fmt: skip


def _claim_fit(choice, constants, types):
    arguments = constants | {"a": Like(types["a"][1:]), "c": Like(types["c"][1:])}
    arguments["other"] = Like(types.get("other", "*bf16")[1:])
    if not choice.fits(arguments, 90):
        raise ValueError(f"{choice.name} does not serve what it is to be compiled for")


def _arrays(dtype, made):
    """The types of the arrays that a variant has, and the constants that say so."""
    out = made.pop("out", dtype)
    types = {"a": f"*{dtype}", "b": f"*{dtype}", "c": f"*{out}"}
    epilogue = made.get("EPILOGUE", "none")
    there = {
        "bias": (made.pop("bias", False), "fp32"),  # as it is, beside rounded weights
        "other": (epilogue in READS_OTHER, out if epilogue == "add" else dtype),
        "kept": (made.pop("KEEP", False), dtype),
        "sums": (made.pop("sums", False), "fp32"),
    }
    constants = {"EPILOGUE": epilogue, "SUM": tl.float32, "WIDEN": False}
    flags = {"bias": "HAS_BIAS", "other": "READS_OTHER", "kept": "KEEP", "sums": "HAS_SUMS"}
    for name, (used, type_) in there.items():
        constants[flags[name]] = used
        if used:
            types[name] = f"*{type_}"
        else:
            constants[name] = None
    return types, constants


def _stream_k():
    for what, layout in (("TN", {"A_T": True, "B_T": False}), ("NN", {"A_T": False, "B_T": False})):
        types = {"a": "*bf16", "b": "*bf16", "parts": "*fp32", **SIZES}
        types |= {"stride_a": "i32:16", "stride_b": "i32:16"}
        constants = layout | STREAM | {"PRECISION": "ieee", "SUM": tl.float32, "WIDEN": False}
        constants |= {"PROGRAMS": BLOCKS, "SLOTS": 2}
        yield Configuration(
            f"stream_k {what}", stream_k, types, constants, STREAM_WARPS, STREAM_STAGES, (90,),
            expects=("wgmma", "tma", "tma store"),
        )  # fmt: skip
    types = {"parts": "*fp32", "c": "*fp32", **SIZES, "stride_c": "i32:16"}
    constants = {"ADD": True, "SUM": tl.float32, "PROGRAMS": BLOCKS, "SLOTS": 2, "ROWS": 16}
    yield Configuration("add_parts", add_parts, types, constants | STREAM, 4, 2, (90,))


def _plain():
    kinds = {"half": ("bf16", "ieee"), "tf32": ("fp32", "tf32"), "fp32": ("fp32", "ieee")}
    on_cores = anywhere.choices[-1].fits  # of those without tensor cores
    for kind, (dtype, precision) in kinds.items():
        for choice in anywhere.choices:
            asked = {"a": Like(dtype), "PRECISION": precision}
            asked["M"] = 16 if choice.constants["BM"] == 16 else 4096
            arches = tuple(a for a in choice.arches if choice.fits(asked, a))
            if arches and (kind == "fp32") == (choice.fits is on_cores):
                yield _plain_one(kind, choice, dtype, precision, arches, {})
    first, fma = anywhere.choices[0], anywhere.choices[-3]
    yield _plain_one("TN any K", first, "bf16", "ieee", (80, 90), {"EVEN_K": False, "A_T": True})
    kept = {"bias": True, "EPILOGUE": "gelu_tanh", "KEEP": True}
    yield _plain_one("bias, gelu kept", first, "bf16", "ieee", (80, 90), kept)
    sums = {"EPILOGUE": "dgelu_tanh", "sums": True, "B_T": True}
    yield _plain_one("NT dgelu and its sums", first, "bf16", "ieee", (80, 90), sums)
    added = {"bias": True, "EPILOGUE": "add", "out": "fp32"}
    yield _plain_one("bias, added to float32", first, "bf16", "ieee", (80, 90), added)
    yield _plain_one("fp16", fma, "fp16", "ieee", (75,), {})


def _plain_one(what, choice, dtype, precision, arches, made):
    made = dict(made)
    a_t, b_t = made.pop("A_T", False), made.pop("B_T", False)
    types, constants = _arrays(dtype, made)
    types |= SIZES | {"stride_cm": "i32:16", "stride_cz": "i32:16"}
    for name, across, down, transposed in (
        ("a", "stride_ak", "stride_am", a_t),
        ("b", "stride_bn", "stride_bk", b_t),
    ):
        constants[down if transposed else across] = 1
        types[across if transposed else down] = "i32:16"
        types[f"stride_{name}z"] = "i32:16"
    constants |= {"ADD": False, "SPLITS": 1, "EVEN_K": True, "PRECISION": precision} | made
    refused = NO_BFLOAT16 if dtype == "bf16" else {}
    return Configuration(
        f"plain {what} {choice.name}", plain, types, constants | choice.constants,
        choice.num_warps, choice.num_stages, arches, refused=refused,
    )  # fmt: skip


def _sums():
    types = {"x": "*fp32", "out": "*fp32", "rows": "i32", "columns": "i32:16", "stride": "i32:16"}
    types["per_block"] = "i32"
    constants = {"ADD": False, "SUM": tl.float32, "BLOCK_ROWS": 32, "BLOCK_COLUMNS": 128}
    alone = {"rounded": None, "ROUNDED": False}
    yield Configuration("sum_rows", sum_rows, types, constants | alone)
    yield Configuration("sum_rows fp16", sum_rows, types | {"x": "*fp16"}, constants | alone)
    yield Configuration(
        "sum_rows and round", sum_rows, types | {"rounded": "*bf16"}, constants | {"ROUNDED": True},
        arches=(80, 90), expects=("vector loads",),
    )  # fmt: skip

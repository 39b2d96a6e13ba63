"""Matrix products, with what comes after one in the same kernel.

Arithmetic of an H100 in bf16, 132 multiprocessors at 4096 operations a cycle each: a tile of
128 x 256 x 64 is 2 * 128 * 256 * 64 = 4.2 million operations, 1024 cycles, for which
(128 + 256) * 64 * 2 = 49 KB come through the L2 cache: 48 bytes a cycle of the 64 or so that one
multiprocessor can get. A tile of 128 x 128 needs 64 bytes a cycle, so the large one is first.
Three stages of it are 147 KB of shared memory, and the way out 64 KB, or 32 KB in two halves.

A product of few tiles leaves multiprocessors idle in its last round: GPT-2's dweight (768, 3072)
is 72 tiles of 128 x 256, 55 % of one round. There `stream_k` divides the steps along K evenly; its
pieces, at most two a block, are 132 * 2 * 128 KB = 35 MB, written and read once through the L2
cache, beside the 110 microseconds that the product's 77 GFLOP take at 700 TFLOP/s.

Share of cuBLAS on an H100: not yet measured
"""

import torch
import triton

from minillm_kernels import precision
from minillm_kernels.arrays import check_grid, check_place
from minillm_kernels.require import interpreted
from minillm_kernels.triton import _device as device
from minillm_kernels.triton._choices import (
    HALVES,
    STREAM,
    STREAM_STAGES,
    STREAM_WARPS,
    anywhere,
    half_precision,
    tf32,
)
from minillm_kernels.triton._epilogue import EPILOGUES, READS_OTHER
from minillm_kernels.triton._persistent import add_parts, stream_k
from minillm_kernels.triton._products import product_configurations
from minillm_kernels.triton._sums import TL, sum_over_rows

__all__ = ["configurations", "matmul"]

FP32_PRECISION = {"float32": "ieee", "tf32": "tf32", "bf16": "ieee"}


def matmul(
    a, b, *, bias=None, epilogue="none", other=None, keep=False, sums=False, out=None, add=False,
    out_dtype=None, kernel=None,
):  # fmt: skip
    """a @ b, in one launch with what follows it.

    Parameters
    ----------
    a : (..., M, K), b : (..., K, N) of one dtype; the transpose of an array in rows is read as it
        lies. Batches, the leading axes, must be the same
    bias : (N,) or None
    epilogue : one of `EPILOGUES`
    other : (M, N), for the epilogues that read it
    keep : bool, return what went into the epilogue too
    sums : bool, return the sums of the result's columns too; for the epilogues that read `other`
    out : (..., M, N) in rows to write to; with `add` to add to
    out_dtype : dtype of the result where it is not a's
    kernel : "plain", "persistent" or "stream_k"; None chooses

    Returns
    -------
    c : (..., M, N), or (c, kept (M, N)) or (c, sums (N,)), where those are asked for

    Raises
    ------
    ValueError
        for shapes, dtypes or devices that do not fit, or a kernel that cannot serve these arrays.
    """
    _check(a, b, bias, epilogue, other, keep, sums, out, add)
    (m, k), n = a.shape[-2:], b.shape[-1]
    c = out
    if c is None:
        shape = (*a.shape[:-1], n)
        c = torch.empty(shape, dtype=out_dtype or a.dtype, device=a.device)
    kept = torch.empty_like(c) if keep else None
    if c.numel() and k == 0:  # nothing to add up: as if by one 0
        a, b, k = a.new_zeros((*a.shape[:-1], 1)), b.new_zeros((*b.shape[:-2], 1, n)), 1
    column_sums = c.new_zeros(n, dtype=device.sum_type(a.dtype)) if sums else None
    if c.numel():
        a, b = (_operand(x.flatten(0, -3) if x.ndim > 3 else x) for x in (a, b))
        call = {
            "a": a, "b": b, "c": c, "bias": None if bias is None else bias.contiguous(),
            "other": None if other is None else other.contiguous(), "kept": kept, "sums": None,
            "M": m, "N": n, "K": k, "EPILOGUE": epilogue, "HAS_BIAS": bias is not None,
            "READS_OTHER": other is not None, "KEEP": keep, "HAS_SUMS": sums, "ADD": add,
            "PRECISION": _input_precision(a.dtype), "SUM": TL[device.sum_type(a.dtype)],
            "WIDEN": interpreted(),
        }  # fmt: skip
        launch = {"plain": _plain, "persistent": _persistent, "stream_k": _stream_k}
        chosen = kernel or _kernel_for(call)
        if chosen != "plain" and not _serves(call):
            raise ValueError(f"matmul: these arrays are not for the kernel {chosen}: see _serves")
        parts = launch[chosen](call)
        if sums:
            column_sums = sum_over_rows(parts)
    return (c, kept) if keep else (c, column_sums) if sums else c


def _plain(call):
    """Launch the kernel for any GPU; returns the sums of columns by tile, or None."""
    a, b, c, m, n, k = (call[name] for name in ("a", "b", "c", "M", "N", "K"))
    batches, splits = c.numel() // (m * n), _splits(call)
    launch = call | {"EVEN_K": k % 64 == 0, "SPLITS": splits, "stride_cz": m * n}
    launch["stride_cm"] = n if splits > 1 else c.stride(-2)
    for name, x, (down, across) in (("a", a, "mk"), ("b", b, "kn")):
        launch |= {f"stride_{name}{down}": x.stride(-2), f"stride_{name}{across}": x.stride(-1)}
        launch[f"stride_{name}z"] = x.stride(0) if x.ndim == 3 else 0
    if splits > 1:
        parts = torch.empty((splits, m * n), dtype=device.sum_type(a.dtype), device=a.device)
        launch |= {"c": parts, "ADD": False}
    if call["HAS_SUMS"]:  # as many rows as there are of the smallest tiles; most stay 0
        launch["sums"] = _zeros(triton.cdiv(m, 16), n, a)

    def grid(sizes):
        count = triton.cdiv(m, sizes["BM"]) * triton.cdiv(n, sizes["BN"]) * batches * splits
        check_grid("matmul", (count,))
        return (count,)

    anywhere[grid](**launch)
    if splits > 1:
        sum_over_rows(parts, out=c.view(-1), add=call["ADD"])
    return launch["sums"]


def _persistent(call):
    """Launch Hopper's kernel of resident blocks; returns the sums of columns by tile, or None."""
    a, b, c, m, n = (call[name] for name in ("a", "b", "c", "M", "N"))
    blocks = device.multiprocessors()
    launch = call | _descriptors(a, b) | {"stride_c": c.stride(0), "PROGRAMS": blocks}
    if call["HAS_SUMS"]:
        launch["sums"] = _zeros(triton.cdiv(m, 128), n, a)

    def grid(sizes):
        return (min(blocks, triton.cdiv(m, sizes["BM"]) * triton.cdiv(n, sizes["BN"])),)

    device.give_scratch()
    (half_precision if c.dtype in HALVES or a.dtype in HALVES else tf32)[grid](**launch)
    return launch["sums"]


def _stream_k(call):
    """Launch the two kernels that divide the steps along K among all multiprocessors."""
    a, b, c, m, n, k = (call[name] for name in ("a", "b", "c", "M", "N", "K"))
    blocks = device.multiprocessors()
    tiles = triton.cdiv(m, STREAM["BM"]) * triton.cdiv(n, STREAM["BN"])
    sizes = STREAM | {"PROGRAMS": blocks, "SLOTS": triton.cdiv(tiles, blocks) + 1}
    shape = (blocks, sizes["SLOTS"], STREAM["BM"], STREAM["BN"])
    parts = torch.empty(shape, dtype=torch.float32, device=a.device)
    device.give_scratch()
    stream_k[(blocks,)](
        a, b, parts, m, n, k, **_descriptors(a, b), PRECISION=call["PRECISION"],
        SUM=call["SUM"], WIDEN=call["WIDEN"], **sizes,
        num_warps=STREAM_WARPS, num_stages=STREAM_STAGES,
    )  # fmt: skip
    rows = STREAM["BM"] if interpreted() else 16
    grid = (tiles * (STREAM["BM"] // rows),)
    check_grid("matmul", grid)
    add_parts[grid](parts, c, m, n, k, c.stride(0), call["ADD"], call["SUM"], **sizes, ROWS=rows)


def _kernel_for(call):
    """The kernel that these arrays are best served by."""
    m, n, k = call["M"], call["N"], call["K"]
    if interpreted() or device.arch() != 90 or m < 64 or n < 64 or not _serves(call):
        return "plain"
    blocks = device.multiprocessors()
    tiles = triton.cdiv(m, STREAM["BM"]) * triton.cdiv(n, STREAM["BN"])
    busy = tiles / (blocks * triton.cdiv(tiles, blocks))
    simple = call["EPILOGUE"] == "none" and not call["HAS_BIAS"] and call["a"].dtype in HALVES
    return "stream_k" if simple and busy < 0.9 and k >= 4096 else "persistent"


def _serves(call):
    """Whether Hopper's kernels can take these arrays: half precision or tf32, two axes, bases and
    rows on multiples of 16 bytes, and a sum that the copy engine can add to."""
    a, c = call["a"], call["c"]
    if a.ndim != 2 or call["b"].ndim != 2:
        return False
    if a.dtype not in HALVES and call["PRECISION"] != "tf32" and not interpreted():
        return False
    if call["ADD"] and c.dtype != torch.float32:
        return False
    arrays = [call[name] for name in ("a", "b", "c", "other", "kept") if call[name] is not None]
    return all(
        x.data_ptr() % 16 == 0 and max(x.stride()) * x.element_size() % 16 == 0 for x in arrays
    )


def _descriptors(a, b):
    return {
        "A_T": a.stride(1) != 1, "B_T": b.stride(1) != 1,
        "stride_a": max(a.stride()), "stride_b": max(b.stride()),
    }  # fmt: skip


def _splits(call):
    """Into how many pieces to cut K, where the tiles are too few for the chip; 1 mostly."""
    plain = call["EPILOGUE"] == "none" and not call["HAS_BIAS"] and call["a"].ndim == 2
    plain = plain and call["c"].is_contiguous()
    tiles = triton.cdiv(call["M"], 64) * triton.cdiv(call["N"], 64)
    most = min(device.multiprocessors() // tiles, call["K"] // 1024, 64)
    return max(most, 1) if plain else 1


def _operand(x):
    """x itself if its rows or its columns lie in one piece and none twice, else a copy in rows."""
    down, across = x.stride(-2), x.stride(-1)
    in_rows = across == 1 and down >= x.shape[-1]
    in_columns = down == 1 and across >= x.shape[-2]
    return x if in_rows or in_columns else x.contiguous()


def _zeros(rows, columns, like):
    return torch.zeros((rows, columns), dtype=device.sum_type(like.dtype), device=like.device)


def _input_precision(dtype):
    wanted = FP32_PRECISION[precision.current()] if dtype == torch.float32 else "ieee"
    return "ieee" if device.arch() == 75 else wanted


def _check(a, b, bias, epilogue, other, keep, sums, out, add):
    for name, x in (("a", a), ("b", b), ("bias", bias), ("other", other), ("out", out)):
        if x is not None:
            check_place("matmul", name, x)
    if a.dtype not in TL:
        raise ValueError(f"matmul: a must be of floating point, got {a.dtype}")
    if b.dtype != a.dtype:
        raise ValueError(f"matmul: b must have a's dtype {a.dtype}, got {b.dtype}")
    if a.dtype == torch.bfloat16 and device.arch() == 75:
        raise ValueError("matmul: bfloat16 needs a GPU of compute capability 8.0: use float16")
    if a.ndim < 2 or b.ndim != a.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: b must have shape (..., {a.shape[-1]}, N), got {tuple(b.shape)}")
    m, n = a.shape[-2], b.shape[-1]
    if bias is not None and bias.shape != (n,):
        raise ValueError(f"matmul: bias must have shape ({n},), got {tuple(bias.shape)}")
    if epilogue not in EPILOGUES:
        raise ValueError(f"matmul: epilogue must be one of {EPILOGUES}, got {epilogue!r}")
    if (epilogue in READS_OTHER) != (other is not None):
        raise ValueError(f"matmul: epilogue {epilogue!r} and other do not go together")
    if other is not None and (other.shape != (m, n) or a.ndim > 2):
        raise ValueError(f"matmul: other must have shape ({m}, {n}), got {tuple(other.shape)}")
    if sums and (other is None or bias is not None or keep):
        raise ValueError("matmul: sums come with an epilogue that reads other, and with no bias")
    if add and (out is None or epilogue != "none"):
        raise ValueError("matmul: add needs out, and the epilogue 'none'")
    if out is not None:
        shape = (*a.shape[:-1], n)
        alone = out.ndim == 2 and not keep and other is None  # rows may then lie further apart
        in_rows = alone and out.stride(-1) == 1 and out.stride(-2) >= n
        if out.shape != shape or not (in_rows or out.is_contiguous()):
            raise ValueError(
                f"matmul: out must be in rows, of shape {tuple(shape)}, got {tuple(out.shape)} "
                f"of strides {out.stride()}"
            )


def configurations():
    return product_configurations()

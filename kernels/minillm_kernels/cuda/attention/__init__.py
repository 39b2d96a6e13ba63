"""The attention ladder: softmax(scale * q @ k.T) @ v and its gradients, an idea a rung.

Every rung is launched in the same way, whatever it saves:

    out, saved = forward(rung, q, k, v, causal=True)
    dq, dk, dv = backward(dout, saved)

on CuPy arrays by a GPU, on NumPy arrays by the emulator. The arguments are those of the op
`flash_attention`, but all C-contiguous; the op's pair is in ../flash_attention.py.
"""

import math
from pathlib import Path

import numpy as np

from minillm.ops._attention import check_attention
from minillm_kernels.cuda.attention._launch import Launch
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = ["MMA", "NAIVE", "ONLINE", "RUNGS", "TILED", "WMMA", "backward", "forward", "refusal"]

HERE = Path(__file__).parent
REAL_TYPES = {"float32": {}, "float64": {"REAL": "double"}}

NAIVE = Rung(
    HERE / "01_naive.cu",
    kernels=(
        "naive_logits",
        "naive_softmax",
        "naive_mix",
        "naive_dweights",
        "naive_dsoftmax",
        "naive_dq",
        "naive_dkv",
    ),
    dtypes=REAL_TYPES,
)
ONLINE = Rung(
    HERE / "02_online_softmax.cu",
    kernels=("online_forward", "online_delta", "online_dq", "online_dkv"),
    dtypes=REAL_TYPES,
)
TILED = Rung(
    HERE / "03_tiled_flash.cu",
    kernels=("flash_forward", "flash_delta", "flash_dq", "flash_dkv"),
    dtypes={"float32": {}, "float64": {"REAL": "double", "ROWS": "32", "TILE": "16"}},
)
WMMA = Rung(
    HERE / "04_wmma_flash.cu",
    kernels=("wmma_forward", "wmma_delta", "wmma_dq", "wmma_dkv"),
    dtypes={"float16": {}, "bfloat16": {"BF16": "1"}},
    dtype_arches={"bfloat16": ("sm_80", "sm_90")},
    expects=("HMMA",),
)
MMA = Rung(
    HERE / "05_mma_flash.cu",
    kernels=("mma_forward", "mma_delta", "mma_dq", "mma_dkv"),
    arches=("sm_80", "sm_90"),
    emulated=False,
    dtypes={"float16": {}, "bfloat16": {"BF16": "1"}},
    expects=("HMMA", "LDGSTS", "LDSM"),
)
RUNGS = (NAIVE, ONLINE, TILED, WMMA, MMA)

SQUARE = (16, 16)  # the threads of a block of rung 03
FOUR_WARPS = (128,)  # of rungs 04 and 05
SHARED = 48 * 1024  # bytes of static shared memory that a block may have
ONLINE_CHANNELS = 256  # of a head: what a warp holds in registers


def forward(rung, q, k, v, *, causal=False, mask=None, scale=None):
    """Attend by one rung of the ladder.

    Parameters
    ----------
    rung : one of RUNGS
    q : (B, H, T, D)
    k : (B, G, S, D), H a multiple of G; query head h reads key/value head h // (H // G)
    v : (B, G, S, any)
    causal : bool, query t sees the keys s <= t + S - T
    mask : None or bool (B, H, T, S), 1 in any place; True = may attend
    scale : float, by default 1 / sqrt(D)

    Returns
    -------
    out : (B, H, T, any)
    saved : what `backward` needs

    Raises
    ------
    ValueError
        for a dtype, shape, stride or device that the rung cannot work with, before any launch.
    """
    check_array("q", q)
    if dtype_of(q) not in rung.dtypes:
        raise ValueError(f"q must be {' or '.join(rung.dtypes)} for {rung}, got {q.dtype}")
    for name, array in (("k", k), ("v", v)):
        check_array(name, array, dtype=q.dtype, like=q)
    if mask is not None:
        check_array("mask", mask, dtype=bool, like=q, contiguous=False)
    check_attention(q, k, v, None, mask)
    reason = refusal(rung, dtype_of(q), q.shape[3], v.shape[3])
    if reason:
        raise ValueError(reason)
    if rung.name in (WMMA.name, MMA.name):
        check_aligned(q=q, k=k, v=v)
    launch = Launch(rung, q, k, v, causal, mask, scale, macros(rung, q, v))
    with allocating(f"{rung}, forward"):
        out = np.empty((*q.shape[:3], v.shape[3]), q.dtype, like=q)
        kept = STEPS[rung.name][0](launch, out) if out.size else None
    return out, (launch, out, kept)


def backward(dout, saved):
    """The gradients of q, k and v, from that of out: (B, H, T, any), C-contiguous."""
    launch, out, kept = saved
    rung = launch.rung
    check_array("dout", dout, dtype=out.dtype, shape=out.shape, like=out)
    if rung.name in (WMMA.name, MMA.name):
        check_aligned(dout=dout)
    with allocating(f"{rung}, backward"):
        grads = tuple(np.empty(x.shape, x.dtype, like=x) for x in (launch.q, launch.k, launch.v))
        if out.size:
            STEPS[rung.name][1](launch, dout, out, kept, *grads)
        else:  # no query: the keys' gradients are sums of nothing
            for grad in grads:
                grad[...] = 0
    return grads


def dtype_of(array):
    """The dtype's name; NumPy has no bfloat16, whose bits come as uint16."""
    return "bfloat16" if array.dtype == np.uint16 else array.dtype.name


def check_aligned(**arrays):
    """Refuse arrays that cannot be read 16 bytes at a time: a view that starts in between."""
    for name, array in arrays.items():
        address = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
        if address % 16:
            raise ValueError(f"{name} must start at a multiple of 16 bytes, got {address}")


def refusal(rung, dtype, D, V):
    """Why a rung cannot take heads of D channels and values of V; None where it can."""
    if D < 1 or V < 1:
        return f"q and v must have at least one channel a head, got {D} and {V}"
    if rung.name == ONLINE.name and max(D, V) > ONLINE_CHANNELS:
        return f"{rung} takes heads of up to {ONLINE_CHANNELS} channels, got {max(D, V)}"
    if rung.name in (NAIVE.name, ONLINE.name):
        return None
    if D != V:
        return f"{rung} wants as many channels in v as in q and k, got {V} and {D}"
    if rung.name == MMA.name:
        return None if D in (64, 128) else f"{rung} takes heads of 64 or 128 channels, got {D}"
    if D % 16 or D > 128 or (rung.name == TILED.name and tile_macros(D, dtype) is None):
        fewer = " (80 in float64)" if rung.name == TILED.name else ""
        return f"{rung} takes heads of 16, 32, ... up to 128 channels{fewer}, got {D} in {dtype}"
    return None


def tile_macros(D, dtype):
    """The largest tiles of rung 03 that fit into a block's shared memory; None if none does."""
    width, itemsize = D + 1, np.dtype(dtype).itemsize
    for rows, cols in ((64, 32), (32, 32), (16, 16)):
        if itemsize * ((rows + cols) * width + rows * (cols + 1)) <= SHARED:
            for tile in (32, 16):
                if itemsize * (4 * tile * width + tile * (tile + 1)) <= SHARED:
                    return {"ROWS": rows, "COLS": cols, "TILE": tile}
    return None


def macros(rung, q, v):
    """What a rung must know when it is compiled for these heads."""
    if rung.name == NAIVE.name:
        return {}
    if rung.name == ONLINE.name:
        return {"HEAD": q.shape[3], "VALUES": v.shape[3]}
    tiles = tile_macros(q.shape[3], q.dtype) if rung.name == TILED.name else {}
    return {"HEAD": q.shape[3], **tiles}


def naive_forward(run, out):
    weights = np.empty((run.B, run.H, run.T, run.S), out.dtype, like=out)
    rows = weights.size // run.S
    heads = (*run.sizes, run.D, run.diagonal, run.scale)
    run.threads("naive_logits", weights.size, run.q, run.k, *run.mask, weights, *heads)
    run.threads("naive_softmax", rows, weights, run.S)
    run.threads("naive_mix", out.size, weights, run.v, out, *run.sizes, run.V)
    return weights


def naive_backward(run, dout, out, weights, dq, dk, dv):
    dlogits = np.empty_like(weights)
    rows = weights.size // run.S
    run.threads("naive_dweights", weights.size, dout, run.v, dlogits, *run.sizes, run.V)
    run.threads("naive_dsoftmax", rows, weights, dlogits, run.S)
    run.threads("naive_dq", dq.size, dlogits, run.k, dq, *run.sizes, run.D, run.scale)
    run.threads("naive_dkv", dk.size, dlogits, run.q, dk, *run.sizes, run.D, run.scale)
    run.threads("naive_dkv", dv.size, weights, dout, dv, *run.sizes, run.V, run.real(1))


def online_forward(run, out):
    log_sum = np.empty(out.shape[:3], out.dtype, like=out)
    run.warps("online_forward", log_sum.size, *run.given, out, log_sum, *run.pairs)
    return log_sum


def online_backward(run, dout, out, log_sum, dq, dk, dv):
    delta = np.empty_like(log_sum)
    run.warps("online_delta", delta.size, dout, out, delta)
    run.warps("online_dq", delta.size, *run.given, dout, log_sum, delta, dq, *run.pairs)
    keys = run.B * run.G * run.S
    run.warps("online_dkv", keys, *run.given, dout, log_sum, delta, dk, dv, *run.pairs)


def tiled_forward(run, out):
    log_sum = np.empty(out.shape[:3], out.dtype, like=out)
    blocks = run.B * run.H * math.ceil(run.T / run.macros["ROWS"])
    run.blocks("flash_forward", blocks, SQUARE, *run.given, out, log_sum, *run.pairs)
    return log_sum


def tiled_backward(run, dout, out, log_sum, dq, dk, dv):
    delta, tile = np.empty_like(log_sum), run.macros["TILE"]
    rows = np.int64(delta.size)
    run.blocks("flash_delta", math.ceil(rows / 16), SQUARE, rows, dout, out, delta)
    given = (*run.given, dout, log_sum, delta)
    blocks = run.B * run.H * math.ceil(run.T / tile)
    run.blocks("flash_dq", blocks, SQUARE, *given, dq, *run.pairs)
    blocks = run.B * run.G * math.ceil(run.S / tile)
    run.blocks("flash_dkv", blocks, SQUARE, *given, dk, dv, *run.pairs)


def half_forward(name, rows):
    """The forward of a rung for half precision, whose blocks have this many queries."""

    def steps(run, out):
        log_sum = np.empty(out.shape[:3], np.float32, like=out)
        blocks = run.B * run.H * math.ceil(run.T / rows)
        run.blocks(f"{name}_forward", blocks, FOUR_WARPS, *run.given, out, log_sum, *run.pairs)
        return log_sum

    return steps


def half_backward(name, tile):
    """The backward; a block keeps so many queries, or keys."""

    def steps(run, dout, out, log_sum, dq, dk, dv):
        delta, rows = np.empty_like(log_sum), np.int64(log_sum.size)
        run.blocks(f"{name}_delta", math.ceil(rows / 4), FOUR_WARPS, rows, dout, out, delta)
        given = (*run.given, dout, log_sum, delta)
        blocks = run.B * run.H * math.ceil(run.T / tile)
        run.blocks(f"{name}_dq", blocks, FOUR_WARPS, *given, dq, *run.pairs)
        blocks = run.B * run.G * math.ceil(run.S / tile)
        run.blocks(f"{name}_dkv", blocks, FOUR_WARPS, *given, dk, dv, *run.pairs)

    return steps


STEPS = {
    NAIVE.name: (naive_forward, naive_backward),
    ONLINE.name: (online_forward, online_backward),
    TILED.name: (tiled_forward, tiled_backward),
    WMMA.name: (half_forward("wmma", 64), half_backward("wmma", 32)),
    MMA.name: (half_forward("mma", 64), half_backward("mma", 64)),
}

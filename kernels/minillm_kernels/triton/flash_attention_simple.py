"""Attention block by block (Dao 2023, arXiv:2307.08691, alg. 1) in one kernel, to be read.

It is minillm/ops/flash_attention.py's forward with its outer loop given away: one program owns
BLOCK queries of one head, and the online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867,
alg. 3) walks over the keys, BLOCK at a time. The (T, S) weights are never in memory.
Left out: backward, bias, mask, grouped heads, values of another size than keys, and all that makes
it fast; flash_attention.py has them.
"""

import math

import torch
import triton
import triton.language as tl

from minillm_kernels.triton._compile import Configuration

__all__ = ["configurations", "flash_attention_simple"]


@triton.jit
def forward_kernel(
    q,
    k,
    v,
    out,
    log_sum,
    T,
    S,
    scale,
    CAUSAL: tl.constexpr,
    ACC: tl.constexpr,
    D: tl.constexpr,
    PADDED_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out (heads, T, D) and log_sum (heads, T) of BLOCK queries of one head; k, v (heads, S, D)."""
    first = tl.program_id(0) * BLOCK
    head = tl.program_id(1).to(tl.int64)
    rows = first + tl.arange(0, BLOCK)  # the queries
    d = tl.arange(0, PADDED_D)
    row_at = (head * T + rows)[:, None] * D + d[None, :]  # (BLOCK, PADDED_D)
    row_inside = (rows < T)[:, None] & (d < D)[None, :]
    q_rows = tl.load(q + row_at, mask=row_inside, other=0.0)

    # of the keys so far: the largest logit, and sums of weights exp(logit - peak)
    peak = tl.full([BLOCK], float("-inf"), ACC)
    total = tl.zeros([BLOCK], ACC)
    mixed = tl.zeros([BLOCK, PADDED_D], ACC)
    diagonal = S - T
    end = S
    if CAUSAL:
        end = tl.minimum(S, first + BLOCK + diagonal)  # the last query's last key, plus 1
    for start in tl.range(0, end, BLOCK):
        cols = start + tl.arange(0, BLOCK)  # the keys
        col_at = (head * S + cols)[:, None] * D + d[None, :]
        col_inside = (cols < S)[:, None] & (d < D)[None, :]
        k_cols = tl.load(k + col_at, mask=col_inside, other=0.0)
        v_cols = tl.load(v + col_at, mask=col_inside, other=0.0)
        logits = scale * tl.dot(q_rows, k_cols.T, input_precision="ieee", out_dtype=ACC)
        seen = (cols < S)[None, :]
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + diagonal)
        logits = tl.where(seen, logits, float("-inf"))  # (BLOCK, BLOCK)

        before = peak
        peak = tl.maximum(peak, tl.max(logits, 1))
        finite = tl.where(peak == float("-inf"), 0.0, peak)  # -inf - -inf is no number
        weights = tl.exp(logits - finite[:, None])
        fade = tl.exp(before - finite)  # what was summed below a lower peak counts less
        total = fade * total + tl.sum(weights, 1)
        mixed = fade[:, None] * mixed
        mixed += tl.dot(weights, v_cols, input_precision="ieee", out_dtype=ACC)

    any_seen = total > 0
    total = tl.where(any_seen, total, 1.0)
    tl.store(out + row_at, mixed / total[:, None], mask=row_inside)
    tl.store(
        log_sum + head * T + rows,
        tl.where(any_seen, peak + tl.log(total), 0.0),
        mask=rows < T,
    )


def flash_attention_simple(q, k, v, *, causal=False, scale=None, block=32):
    """Attend as minillm.ops.flash_attention does; forward alone.

    Equation: out = softmax(scale * q @ k.T) @ v

    Parameters
    ----------
    q : (B, H, T, D) torch tensor, float32 or float64
    k, v : (B, H, S, D)
    causal : bool, query t sees the keys s <= t + S - T
    scale : float, by default 1 / sqrt(D)
    block : int, queries and keys that meet at a time: a power of two, at least 16

    Returns
    -------
    out : (B, H, T, D)
    log_sum : (B, H, T), the logarithm of each query's sum of exponentials, 0 where it sees no key

    Raises
    ------
    ValueError
        for shapes or dtypes that do not fit together, or another block.
    """
    if q.ndim != 4 or k.shape != (*q.shape[:2], k.shape[2], q.shape[3]) or v.shape != k.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k, v must be (B, H, T, D), (B, H, S, D) twice, got {shapes}")
    if q.dtype not in (torch.float32, torch.float64) or not q.dtype == k.dtype == v.dtype:
        dtypes = f"{q.dtype}, {k.dtype}, {v.dtype}"
        raise ValueError(f"q, k and v must be float32 or float64, all alike, got {dtypes}")
    if block < 16 or block & (block - 1):
        raise ValueError(f"block must be a power of two and at least 16, got {block}")
    (B, H, T, D), S = q.shape, k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, log_sum = torch.empty_like(q), torch.empty_like(q[..., 0])
    grid = (triton.cdiv(T, block), B * H)
    if out.numel():
        forward_kernel[grid](q, k, v, out, log_sum, T, S, scale, **constants(q, causal, block))
    return out, log_sum


def constants(q, causal, block):
    """What the kernel is compiled for."""
    return {
        "CAUSAL": bool(causal),
        "ACC": tl.float64 if q.dtype == torch.float64 else tl.float32,
        "D": q.shape[3],
        "PADDED_D": max(16, triton.next_power_of_2(q.shape[3])),
        "BLOCK": block,
    }


def configurations():
    """What the launcher compiles: heads of GPT-2's size, and one that is padded."""
    for size, causal, arches in ((64, True, (75, 80, 90)), (40, False, (90,))):
        q = torch.empty(2, 4, 1024, size, device="meta")
        types = dict.fromkeys(("q", "k", "v", "out", "log_sum"), "*fp32")
        types |= {"T": "i32:16", "S": "i32:16", "scale": "fp32"}
        name = f"D={size}{' causal' * causal}"
        yield Configuration(name, forward_kernel, types, constants(q, causal, 32), arches=arches)

"""The forward kernel of attention block by block (Dao 2023, arXiv:2307.08691, algorithm 1).

A program owns BLOCK_T queries of one head and walks over the keys, BLOCK_S at a time; the (T, S)
logits live in registers only. The softmax is normalised online (Milakov & Gimelshein 2018,
arXiv:1805.02867, algorithm 3), in powers of two: exp(scale x) = exp2(scale log2(e) x), one fused
multiply-add and one ex2 a logit. Keys that every query of the tile sees need no comparison, so they
come in a loop of their own before those on the diagonal or past the end.

Arithmetic: 4 T S D a head, half of that if causal. Bytes: q, k, v and out once each, and k, v again
for every tile of queries, from the L2 cache.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._attention_choices import FORWARD, KEY
from minillm_kernels.triton._attention_tiles import (
    LN2,
    LOG2E,
    LOWEST,
    load_tile,
    sequence,
    store_tile,
    visible_pairs,
    which_tile,
)
from minillm_kernels.triton._tune import autotune

__all__ = ["forward_kernel"]


@triton.jit
def products(
    q0,
    q1,
    k,
    batch,
    group,
    s,
    S,
    k_stride,
    TMA: tl.constexpr,
    WIDEN: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    D: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """q @ k.T for the keys s..s + BLOCK_S: (BLOCK_T, BLOCK_S)."""
    k0 = load_tile(k, batch, group, s, S, k_stride, 0, D0, D, BLOCK_S, TMA, WIDEN)
    logits = tl.dot(q0, k0.T, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        k1 = load_tile(k, batch, group, s, S, k_stride, D0, D1, D, BLOCK_S, TMA, WIDEN)
        logits = tl.dot(q1, k1.T, logits, input_precision=PRECISION, out_dtype=ACC)
    return logits


@triton.jit
def weigh(
    logits,
    total,
    peak,
    bias,
    mask,
    row,
    s,
    T,
    S,
    diagonal,
    qk_scale,
    bias_t,
    bias_s,
    mask_t,
    mask_s,
    CAUSAL: tl.constexpr,
    EXPLICIT: tl.constexpr,
    BIAS: tl.constexpr,
    MASK: tl.constexpr,
    EDGE: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """From q @ k.T to weights (BLOCK_T, BLOCK_S), and fade, total and peak (BLOCK_T,).

    What was summed below the lower peak before counts `fade` times as much now. EDGE: not every
    query of the tile sees all of these keys.
    """
    rows = (row + tl.arange(0, BLOCK_T))[:, None]
    cols = (s + tl.arange(0, BLOCK_S))[None, :]
    if EXPLICIT:
        logits = logits * qk_scale
    if BIAS:
        inside = (rows < T) & (cols < S)
        at = bias + rows.to(tl.int64) * bias_t + cols * bias_s
        logits += tl.load(at, mask=inside, other=0.0).to(ACC) * LOG2E
    if EDGE:
        seen = visible_pairs(rows, cols, T, S, diagonal, mask, mask_t, mask_s, CAUSAL, MASK)
        logits = tl.where(seen, logits, float("-inf"))
    if EXPLICIT:
        higher = tl.maximum(peak, tl.max(logits, 1))
        weights = tl.exp2(logits - higher[:, None])
    else:
        higher = tl.maximum(peak, tl.max(logits, 1) * qk_scale)
        weights = tl.exp2(logits * qk_scale - higher[:, None])
    fade = tl.exp2(peak - higher)
    return weights, fade, total * fade + tl.sum(weights, 1), higher


@triton.jit
def mix(
    acc0,
    acc1,
    weights,
    fade,
    v,
    batch,
    group,
    s,
    S,
    v_stride,
    TMA: tl.constexpr,
    WIDEN: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    DV: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Let the sums fade and add the weighted values s..s + BLOCK_S."""
    v0 = load_tile(v, batch, group, s, S, v_stride, 0, D0, DV, BLOCK_S, TMA, WIDEN)
    acc0 = acc0 * fade[:, None]
    acc0 = tl.dot(weights, v0, acc0, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        v1 = load_tile(v, batch, group, s, S, v_stride, D0, D1, DV, BLOCK_S, TMA, WIDEN)
        acc1 = acc1 * fade[:, None]
        acc1 = tl.dot(weights, v1, acc1, input_precision=PRECISION, out_dtype=ACC)
    return acc0, acc1


@autotune(FORWARD, key=KEY)
@triton.jit
def forward_kernel(
    q,
    k,
    v,
    bias,
    mask,
    out,
    log_sum,
    starts_q,
    starts_k,
    T,
    S,
    H,
    R,
    heads,
    together,
    qk_scale,
    q_b,
    q_h,
    q_t,
    k_b,
    k_h,
    k_t,
    v_b,
    v_h,
    v_t,
    out_b,
    out_h,
    out_t,
    lse_b,
    lse_h,
    bias_b,
    bias_h,
    bias_t,
    bias_s,
    mask_b,
    mask_h,
    mask_t,
    mask_s,
    size_class,
    CAUSAL: tl.constexpr,
    EXPLICIT: tl.constexpr,
    BIAS: tl.constexpr,
    MASK: tl.constexpr,
    VARLEN: tl.constexpr,
    TMA: tl.constexpr,
    WIDEN: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """out and log_sum of one tile of queries. R query heads read one key head.

    EXPLICIT: the logits are scaled one by one, for a bias, or a scale that is not above zero and
    so may not move past the maximum.
    """
    tile, head = which_tile(tl.cdiv(T, BLOCK_T), heads, together, CAUSAL)
    batch = (head // H).to(tl.int64)
    h = head % H
    g = h // R
    first_q, T = sequence(starts_q, batch, T, VARLEN)
    first_k, S = sequence(starts_k, batch, S, VARLEN)
    diagonal = S - T
    row = tile * BLOCK_T
    if row >= T:
        return
    if not TMA:
        q += batch * q_b + h.to(tl.int64) * q_h + first_q * q_t
        k += batch * k_b + g.to(tl.int64) * k_h + first_k * k_t
        v += batch * v_b + g.to(tl.int64) * v_h + first_k * v_t
    out += batch * out_b + h.to(tl.int64) * out_h + first_q * out_t
    log_sum += batch * lse_b + h.to(tl.int64) * lse_h + first_q
    if BIAS:
        bias += batch * bias_b + h.to(tl.int64) * bias_h
    if MASK:
        mask += batch * mask_b + h.to(tl.int64) * mask_h

    b32 = batch.to(tl.int32)
    q0 = load_tile(q, b32, h, row, T, q_t, 0, D0, D, BLOCK_T, TMA, WIDEN)
    q1 = q0
    if D1 > 0:
        q1 = load_tile(q, b32, h, row, T, q_t, D0, D1, D, BLOCK_T, TMA, WIDEN)
    acc0 = tl.zeros([BLOCK_T, D0], ACC)
    acc1 = tl.zeros([BLOCK_T, D1 if D1 > 0 else 1], ACC)
    total = tl.zeros([BLOCK_T], ACC)
    peak = tl.full([BLOCK_T], LOWEST, ACC)

    # keys before `full` are seen by all queries of the tile, those from `high` on by none
    high = S
    full = S // BLOCK_S * BLOCK_S
    if CAUSAL:
        high = tl.minimum(S, row + BLOCK_T + diagonal)
        full = tl.minimum(full, tl.maximum(row + diagonal + 1, 0) // BLOCK_S * BLOCK_S)
    if MASK:
        full = 0
    if OVERLAP:
        # The product with a block's values is asked for after the next block's logits: so it runs
        # on the tensor cores while that block's exponentials run beside it (Shah et al. 2024,
        # arXiv:2407.08608, section 3.2). The compiler leaves a product in flight only if its first
        # factor is made inside the loop, so it is there that weights become 16-bit numbers.
        full = tl.maximum(full, BLOCK_S)
        logits = products(
            q0, q1, k, b32, g, 0, S, k_t, TMA, WIDEN, ACC, PRECISION, D, D0, D1, BLOCK_S
        )
        weights, fade, total, peak = weigh(
            logits, total, peak, bias, mask, row, 0, T, S, diagonal, qk_scale, bias_t, bias_s,
            mask_t, mask_s, CAUSAL, EXPLICIT, BIAS, MASK, True, ACC, BLOCK_T, BLOCK_S,
        )  # fmt: skip
        for s in tl.range(BLOCK_S, full, BLOCK_S):
            factors = weights.to(q0.dtype)
            logits = products(
                q0, q1, k, b32, g, s, S, k_t, TMA, WIDEN, ACC, PRECISION, D, D0, D1, BLOCK_S
            )
            acc0, acc1 = mix(
                acc0, acc1, factors, fade, v, b32, g, s - BLOCK_S, S, v_t, TMA, WIDEN, ACC,
                PRECISION, DV, D0, D1, BLOCK_S,
            )  # fmt: skip
            weights, fade, total, peak = weigh(
                logits, total, peak, bias, mask, row, s, T, S, diagonal, qk_scale, bias_t, bias_s,
                mask_t, mask_s, CAUSAL, EXPLICIT, BIAS, MASK, False, ACC, BLOCK_T, BLOCK_S,
            )  # fmt: skip
        acc0, acc1 = mix(
            acc0, acc1, weights.to(q0.dtype), fade, v, b32, g, full - BLOCK_S, S, v_t, TMA, WIDEN,
            ACC, PRECISION, DV, D0, D1, BLOCK_S,
        )  # fmt: skip
    else:
        for s in tl.range(0, full, BLOCK_S):
            logits = products(
                q0, q1, k, b32, g, s, S, k_t, TMA, WIDEN, ACC, PRECISION, D, D0, D1, BLOCK_S
            )
            weights, fade, total, peak = weigh(
                logits, total, peak, bias, mask, row, s, T, S, diagonal, qk_scale, bias_t, bias_s,
                mask_t, mask_s, CAUSAL, EXPLICIT, BIAS, MASK, False, ACC, BLOCK_T, BLOCK_S,
            )  # fmt: skip
            acc0, acc1 = mix(
                acc0, acc1, weights.to(q0.dtype), fade, v, b32, g, s, S, v_t, TMA, WIDEN, ACC,
                PRECISION, DV, D0, D1, BLOCK_S,
            )  # fmt: skip
    for s in tl.range(full, high, BLOCK_S):
        logits = products(
            q0, q1, k, b32, g, s, S, k_t, TMA, WIDEN, ACC, PRECISION, D, D0, D1, BLOCK_S
        )
        weights, fade, total, peak = weigh(
            logits, total, peak, bias, mask, row, s, T, S, diagonal, qk_scale, bias_t, bias_s,
            mask_t, mask_s, CAUSAL, EXPLICIT, BIAS, MASK, True, ACC, BLOCK_T, BLOCK_S,
        )  # fmt: skip
        acc0, acc1 = mix(
            acc0, acc1, weights.to(q0.dtype), fade, v, b32, g, s, S, v_t, TMA, WIDEN, ACC,
            PRECISION, DV, D0, D1, BLOCK_S,
        )  # fmt: skip

    seen = total > 0
    total = tl.where(seen, total, 1.0)
    share = 1.0 / total
    store_tile(out, acc0 * share[:, None], row, T, out_t, 0, D0, DV, BLOCK_T)
    if D1 > 0:
        store_tile(out, acc1 * share[:, None], row, T, out_t, D0, D1, DV, BLOCK_T)
    # where nothing was seen any number does: backward's logits are -inf again, its weights 0
    rows = row + tl.arange(0, BLOCK_T)
    tl.store(log_sum + rows, tl.where(seen, peak * LN2 + tl.log(total), 0.0), mask=rows < T)

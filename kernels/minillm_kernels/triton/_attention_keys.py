"""Attention's backward, by tiles of keys: dk and dv (Dao 2023, arXiv:2307.08691, algorithm 2).

With weights = exp(logits - log_sum) made again block by block,
    dv = weights.T @ dout,   dweights = dout @ v.T,   dlogits = weights * (dweights - delta),
    dk = scale * dlogits.T @ q,   dq = scale * dlogits @ k,   delta = sum(dout * out) of each query.

`keys_kernel` owns a tile of keys and walks over the queries that see it; `queries_kernel`
(_attention_queries.py) owns a tile of queries and walks over its keys. Each sum is made by one
program in a fixed order, so a repetition gives the same bits; the price is that logits and dweights
are made twice: 7 products of T S D where 5 would do. With FUSED `keys_kernel` does the 5, adding
its part of dq to memory atomically, in the order in which programs happen to come.

In `keys_kernel` logits and weights are transposed, (BLOCK_S, BLOCK_T): so they come out of one
product in the registers in which the next one takes its first factor.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._attention_choices import KEY, KEYS
from minillm_kernels.triton._attention_tiles import (
    LOG2E,
    load_rows,
    load_tile,
    sequence,
    store_tile,
    visible_pairs,
    which_tile,
)
from minillm_kernels.triton._tune import autotune

__all__ = ["keys_kernel"]


@triton.jit
def keys_step(
    dk0,
    dk1,
    dv0,
    dv1,
    k0,
    k1,
    v0,
    v1,
    q,
    dout,
    lse,
    delta,
    dq,
    bias,
    mask,
    batch,
    head,
    t,
    s,
    T,
    S,
    diagonal,
    scale,
    qk_scale,
    q_t,
    dout_t,
    dq_t,
    bias_t,
    bias_s,
    mask_t,
    mask_s,
    FUSED: tl.constexpr,
    TMA_ADDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    EXPLICIT: tl.constexpr,
    BIAS: tl.constexpr,
    MASK: tl.constexpr,
    EDGE: tl.constexpr,
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
):
    """What the queries t..t + BLOCK_T of one head add to dk and dv. EDGE: not all see all keys."""
    q0 = load_tile(q, batch, head, t, T, q_t, 0, D0, D, BLOCK_T, TMA, WIDEN)
    logits = tl.dot(k0, q0.T, input_precision=PRECISION, out_dtype=ACC)  # (BLOCK_S, BLOCK_T)
    q1 = q0
    if D1 > 0:
        q1 = load_tile(q, batch, head, t, T, q_t, D0, D1, D, BLOCK_T, TMA, WIDEN)
        logits = tl.dot(k1, q1.T, logits, input_precision=PRECISION, out_dtype=ACC)
    # both products that the exponentials wait for come first: dv's then runs beside dlogits
    do0 = load_tile(dout, batch, head, t, T, dout_t, 0, D0, DV, BLOCK_T, TMA, WIDEN)
    dweights = tl.dot(v0, do0.T, input_precision=PRECISION, out_dtype=ACC)
    do1 = do0
    if D1 > 0:
        do1 = load_tile(dout, batch, head, t, T, dout_t, D0, D1, DV, BLOCK_T, TMA, WIDEN)
        dweights = tl.dot(v1, do1.T, dweights, input_precision=PRECISION, out_dtype=ACC)
    # of a query past the end log_sum is inf, and so its weights are exp(-inf) = 0
    log_sum = load_rows(lse, t, T, BLOCK_T, float("inf")) * LOG2E
    rows = (t + tl.arange(0, BLOCK_T))[None, :]
    cols = (s + tl.arange(0, BLOCK_S))[:, None]
    logits = logits * qk_scale
    if BIAS:
        inside = (rows < T) & (cols < S)
        at = bias + rows.to(tl.int64) * bias_t + cols * bias_s
        logits += tl.load(at, mask=inside, other=0.0).to(ACC) * LOG2E
    if EDGE:
        seen = visible_pairs(rows, cols, T, S, diagonal, mask, mask_t, mask_s, CAUSAL, MASK)
        logits = tl.where(seen, logits, float("-inf"))
    weights = tl.exp2(logits - log_sum[None, :])
    factors = weights.to(do0.dtype)
    dv0 = tl.dot(factors, do0, dv0, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        dv1 = tl.dot(factors, do1, dv1, input_precision=PRECISION, out_dtype=ACC)
    shared = load_rows(delta, t, T, BLOCK_T, 0.0)
    dlogits = (weights * (dweights - shared[None, :])).to(q0.dtype)
    dk0 = tl.dot(dlogits, q0, dk0, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        dk1 = tl.dot(dlogits, q1, dk1, input_precision=PRECISION, out_dtype=ACC)
    if FUSED:
        part = tl.dot(tl.trans(dlogits), k0, input_precision=PRECISION, out_dtype=ACC) * scale
        if TMA_ADDS:
            dq.atomic_add([batch, head, t, 0], part.reshape(1, 1, BLOCK_T, D0))
        else:
            r = t + tl.arange(0, BLOCK_T)[:, None]
            c = tl.arange(0, D0)[None, :]
            tl.atomic_add(dq + r * dq_t + c, part, mask=(r < T) & (c < D), sem="relaxed")
        if D1 > 0:
            part = tl.dot(tl.trans(dlogits), k1, input_precision=PRECISION, out_dtype=ACC) * scale
            r = t + tl.arange(0, BLOCK_T)[:, None]
            c = D0 + tl.arange(0, D1)[None, :]
            tl.atomic_add(dq + r * dq_t + c, part, mask=(r < T) & (c < D), sem="relaxed")
    return dk0, dk1, dv0, dv1


@autotune(KEYS, key=[*KEY, "FUSED"])
@triton.jit
def keys_kernel(
    q,
    k,
    v,
    dout,
    lse,
    delta,
    dq,
    dk,
    dv,
    bias,
    mask,
    starts_q,
    starts_k,
    T,
    S,
    H,
    R,
    heads,
    together,
    scale,
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
    dout_b,
    dout_h,
    dout_t,
    dq_b,
    dq_h,
    dq_t,
    dk_b,
    dk_h,
    dk_t,
    dv_b,
    dv_h,
    dv_t,
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
    FUSED: tl.constexpr,
    TMA_ADDS: tl.constexpr,
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
    ONE_LOOP: tl.constexpr,
):
    """dk and dv of one tile of keys, summed over the R query heads that read it.

    ONE_LOOP compares queries with keys everywhere, not on the diagonal alone: with one loop instead
    of two the compiler has the registers for larger tiles.
    """
    # the first keys are seen by the most queries, and come first
    tile, head = which_tile(tl.cdiv(S, BLOCK_S), heads, together, False)
    G = H // R
    batch = (head // G).to(tl.int64)
    g = head % G
    first_q, T = sequence(starts_q, batch, T, VARLEN)
    first_k, S = sequence(starts_k, batch, S, VARLEN)
    diagonal = S - T
    s = tile * BLOCK_S
    if s >= S:
        return
    b32 = batch.to(tl.int32)
    if not TMA:
        k += batch * k_b + g.to(tl.int64) * k_h + first_k * k_t
        v += batch * v_b + g.to(tl.int64) * v_h + first_k * v_t
    dk += batch * dk_b + g.to(tl.int64) * dk_h + first_k * dk_t
    dv += batch * dv_b + g.to(tl.int64) * dv_h + first_k * dv_t
    k0 = load_tile(k, b32, g, s, S, k_t, 0, D0, D, BLOCK_S, TMA, WIDEN)
    v0 = load_tile(v, b32, g, s, S, v_t, 0, D0, DV, BLOCK_S, TMA, WIDEN)
    k1 = k0
    v1 = v0
    if D1 > 0:
        k1 = load_tile(k, b32, g, s, S, k_t, D0, D1, D, BLOCK_S, TMA, WIDEN)
        v1 = load_tile(v, b32, g, s, S, v_t, D0, D1, DV, BLOCK_S, TMA, WIDEN)
    dk0 = tl.zeros([BLOCK_S, D0], ACC)
    dv0 = tl.zeros([BLOCK_S, D0], ACC)
    dk1 = tl.zeros([BLOCK_S, D1 if D1 > 0 else 1], ACC)
    dv1 = tl.zeros([BLOCK_S, D1 if D1 > 0 else 1], ACC)

    # queries before `low` see none of these keys, those from `full` on see them all
    low = 0
    full = 0
    if CAUSAL:
        low = tl.maximum(s - diagonal, 0) // BLOCK_T * BLOCK_T
        full = tl.cdiv(tl.maximum(s + BLOCK_S - 1 - diagonal, 0), BLOCK_T) * BLOCK_T
    if MASK:
        full = T
    if FUSED:  # keys past the end would put a NaN into dq
        full = tl.where(s + BLOCK_S > S, T, full)
    full = tl.minimum(full, tl.cdiv(T, BLOCK_T) * BLOCK_T)
    if ONE_LOOP:
        full = T
    for r in range(R):
        h = g * R + r
        far = h.to(tl.int64)
        q_here = q
        dout_here = dout
        dq_here = dq
        if not TMA:
            q_here = q + batch * q_b + far * q_h + first_q * q_t
            dout_here = dout + batch * dout_b + far * dout_h + first_q * dout_t
        if FUSED and not TMA_ADDS:
            dq_here = dq + batch * dq_b + far * dq_h + first_q * dq_t
        lse_here = lse + batch * lse_b + far * lse_h + first_q
        delta_here = delta + batch * lse_b + far * lse_h + first_q
        bias_here = bias
        mask_here = mask
        if BIAS:
            bias_here = bias + batch * bias_b + far * bias_h
        if MASK:
            mask_here = mask + batch * mask_b + far * mask_h
        for t in tl.range(low, full, BLOCK_T):
            dk0, dk1, dv0, dv1 = keys_step(
                dk0, dk1, dv0, dv1, k0, k1, v0, v1, q_here, dout_here, lse_here, delta_here,
                dq_here, bias_here, mask_here, b32, h, t, s, T, S, diagonal, scale, qk_scale, q_t,
                dout_t, dq_t, bias_t, bias_s, mask_t, mask_s, FUSED, TMA_ADDS, CAUSAL, EXPLICIT,
                BIAS, MASK, True, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T, BLOCK_S,
            )  # fmt: skip
        if not ONE_LOOP:
            for t in tl.range(full, T, BLOCK_T):
                dk0, dk1, dv0, dv1 = keys_step(
                    dk0, dk1, dv0, dv1, k0, k1, v0, v1, q_here, dout_here, lse_here, delta_here,
                    dq_here, bias_here, mask_here, b32, h, t, s, T, S, diagonal, scale, qk_scale,
                    q_t, dout_t, dq_t, bias_t, bias_s, mask_t, mask_s, FUSED, TMA_ADDS, CAUSAL,
                    EXPLICIT, BIAS, MASK, False, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T,
                    BLOCK_S,
                )  # fmt: skip
    store_tile(dk, dk0 * scale, s, S, dk_t, 0, D0, D, BLOCK_S)
    store_tile(dv, dv0, s, S, dv_t, 0, D0, DV, BLOCK_S)
    if D1 > 0:
        store_tile(dk, dk1 * scale, s, S, dk_t, D0, D1, D, BLOCK_S)
        store_tile(dv, dv1, s, S, dv_t, D0, D1, DV, BLOCK_S)

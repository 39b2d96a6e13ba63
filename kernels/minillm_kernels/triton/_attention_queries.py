"""Attention's backward, by tiles of queries: delta and dq (Dao 2023, arXiv:2307.08691, alg. 2).

See _attention_keys.py, whose `keys_kernel` makes dk and dv of the same equations.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._attention_choices import KEY, QUERIES
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

__all__ = ["delta_kernel", "queries_kernel"]


@triton.jit
def delta_kernel(
    out,
    dout,
    delta,
    starts_q,
    T,
    H,
    out_b,
    out_h,
    out_t,
    dout_b,
    dout_h,
    dout_t,
    lse_b,
    lse_h,
    VARLEN: tl.constexpr,
    ACC: tl.constexpr,
    DV: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """delta = sum(dout * out) of each query."""
    tiles = tl.cdiv(T, BLOCK_T)
    row = tl.program_id(0) % tiles * BLOCK_T
    head = tl.program_id(0) // tiles
    batch = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    first, T = sequence(starts_q, batch, T, VARLEN)
    rows = row + tl.arange(0, BLOCK_T)
    cols = tl.arange(0, BLOCK_D)
    inside = (rows[:, None] < T) & (cols[None, :] < DV)
    out += batch * out_b + h * out_h + first * out_t
    dout += batch * dout_b + h * dout_h + first * dout_t
    x = tl.load(out + rows[:, None] * out_t + cols[None, :], mask=inside, other=0.0).to(ACC)
    y = tl.load(dout + rows[:, None] * dout_t + cols[None, :], mask=inside, other=0.0).to(ACC)
    tl.store(delta + batch * lse_b + h * lse_h + first + rows, tl.sum(x * y, 1), mask=rows < T)


@triton.jit
def queries_step(
    dq0,
    dq1,
    q0,
    q1,
    do0,
    do1,
    log_sum,
    shared,
    k,
    v,
    bias,
    mask,
    dbias,
    batch,
    group,
    t,
    s,
    T,
    S,
    diagonal,
    qk_scale,
    k_t,
    v_t,
    bias_t,
    bias_s,
    mask_t,
    mask_s,
    dbias_t,
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
    """What the keys s..s + BLOCK_S add to dq. EDGE: not all queries see all of them."""
    k0 = load_tile(k, batch, group, s, S, k_t, 0, D0, D, BLOCK_S, TMA, WIDEN)
    logits = tl.dot(q0, k0.T, input_precision=PRECISION, out_dtype=ACC)  # (BLOCK_T, BLOCK_S)
    k1 = k0
    if D1 > 0:
        k1 = load_tile(k, batch, group, s, S, k_t, D0, D1, D, BLOCK_S, TMA, WIDEN)
        logits = tl.dot(q1, k1.T, logits, input_precision=PRECISION, out_dtype=ACC)
    v0 = load_tile(v, batch, group, s, S, v_t, 0, D0, DV, BLOCK_S, TMA, WIDEN)
    dweights = tl.dot(do0, v0.T, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        v1 = load_tile(v, batch, group, s, S, v_t, D0, D1, DV, BLOCK_S, TMA, WIDEN)
        dweights = tl.dot(do1, v1.T, dweights, input_precision=PRECISION, out_dtype=ACC)
    rows = (t + tl.arange(0, BLOCK_T))[:, None]
    cols = (s + tl.arange(0, BLOCK_S))[None, :]
    logits = logits * qk_scale
    if BIAS:
        inside = (rows < T) & (cols < S)
        at = bias + rows.to(tl.int64) * bias_t + cols * bias_s
        logits += tl.load(at, mask=inside, other=0.0).to(ACC) * LOG2E
    if EDGE:
        seen = visible_pairs(rows, cols, T, S, diagonal, mask, mask_t, mask_s, CAUSAL, MASK)
        logits = tl.where(seen, logits, float("-inf"))
    weights = tl.exp2(logits - log_sum[:, None])
    dlogits = weights * (dweights - shared[:, None])
    if BIAS:
        at = dbias + rows.to(tl.int64) * dbias_t + cols
        tl.store(at, dlogits.to(dbias.dtype.element_ty), mask=(rows < T) & (cols < S))
    factors = dlogits.to(k0.dtype)
    dq0 = tl.dot(factors, k0, dq0, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        dq1 = tl.dot(factors, k1, dq1, input_precision=PRECISION, out_dtype=ACC)
    return dq0, dq1


@autotune(QUERIES, key=KEY)
@triton.jit
def queries_kernel(
    q,
    k,
    v,
    dout,
    lse,
    delta,
    dq,
    dbias,
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
    dbias_b,
    dbias_h,
    dbias_t,
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
):
    """dq of one tile of queries, and with BIAS the gradient of its logits, dbias (B, H, T, S)."""
    tile, head = which_tile(tl.cdiv(T, BLOCK_T), heads, together, CAUSAL)
    batch = (head // H).to(tl.int64)
    h = head % H
    g = h // R
    far = h.to(tl.int64)
    first_q, T = sequence(starts_q, batch, T, VARLEN)
    first_k, S = sequence(starts_k, batch, S, VARLEN)
    diagonal = S - T
    t = tile * BLOCK_T
    if t >= T:
        return
    b32 = batch.to(tl.int32)
    if not TMA:
        q += batch * q_b + far * q_h + first_q * q_t
        k += batch * k_b + g.to(tl.int64) * k_h + first_k * k_t
        v += batch * v_b + g.to(tl.int64) * v_h + first_k * v_t
        dout += batch * dout_b + far * dout_h + first_q * dout_t
    dq += batch * dq_b + far * dq_h + first_q * dq_t
    lse += batch * lse_b + far * lse_h + first_q
    delta += batch * lse_b + far * lse_h + first_q
    if BIAS:
        bias += batch * bias_b + far * bias_h
        dbias += batch * dbias_b + far * dbias_h
    if MASK:
        mask += batch * mask_b + far * mask_h
    q0 = load_tile(q, b32, h, t, T, q_t, 0, D0, D, BLOCK_T, TMA, WIDEN)
    do0 = load_tile(dout, b32, h, t, T, dout_t, 0, D0, DV, BLOCK_T, TMA, WIDEN)
    q1 = q0
    do1 = do0
    if D1 > 0:
        q1 = load_tile(q, b32, h, t, T, q_t, D0, D1, D, BLOCK_T, TMA, WIDEN)
        do1 = load_tile(dout, b32, h, t, T, dout_t, D0, D1, DV, BLOCK_T, TMA, WIDEN)
    log_sum = load_rows(lse, t, T, BLOCK_T, 0.0) * LOG2E
    shared = load_rows(delta, t, T, BLOCK_T, 0.0)
    dq0 = tl.zeros([BLOCK_T, D0], ACC)
    dq1 = tl.zeros([BLOCK_T, D1 if D1 > 0 else 1], ACC)

    high = S
    full = S // BLOCK_S * BLOCK_S
    if CAUSAL:
        high = tl.minimum(S, t + BLOCK_T + diagonal)
        full = tl.minimum(full, tl.maximum(t + diagonal + 1, 0) // BLOCK_S * BLOCK_S)
    if MASK:
        full = 0
    for s in tl.range(0, full, BLOCK_S):
        dq0, dq1 = queries_step(
            dq0, dq1, q0, q1, do0, do1, log_sum, shared, k, v, bias, mask, dbias, b32, g, t, s, T,
            S, diagonal, qk_scale, k_t, v_t, bias_t, bias_s, mask_t, mask_s, dbias_t, CAUSAL,
            EXPLICIT, BIAS, MASK, False, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T,
            BLOCK_S,
        )  # fmt: skip
    for s in tl.range(full, high, BLOCK_S):
        dq0, dq1 = queries_step(
            dq0, dq1, q0, q1, do0, do1, log_sum, shared, k, v, bias, mask, dbias, b32, g, t, s, T,
            S, diagonal, qk_scale, k_t, v_t, bias_t, bias_s, mask_t, mask_s, dbias_t, CAUSAL,
            EXPLICIT, BIAS, MASK, True, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T, BLOCK_S,
        )  # fmt: skip
    store_tile(dq, dq0 * scale, t, T, dq_t, 0, D0, D, BLOCK_T)
    if D1 > 0:
        store_tile(dq, dq1 * scale, t, T, dq_t, D0, D1, D, BLOCK_T)

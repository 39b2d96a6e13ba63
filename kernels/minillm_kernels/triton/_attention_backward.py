"""The backward kernels of attention block by block (Dao 2023, arXiv:2307.08691, algorithm 2).

With weights = exp(logits - log_sum) made again block by block,
    dv = weights.T @ dout,   dweights = dout @ v.T,   dlogits = weights * (dweights - delta),
    dk = scale * dlogits.T @ q,   dq = scale * dlogits @ k,   delta = sum(dout * out) of each query.

`keys_kernel` owns a tile of keys and walks over the queries that see it; `queries_kernel` owns a
tile of queries and walks over its keys. Each sum is made by one program in a fixed order, so a
repetition gives the same bits; the price is that logits and dweights are made twice: 7 products of
T S D where 5 would do. With FUSED `keys_kernel` does the 5, adding its part of dq to memory
atomically, in the order in which programs happen to come.

In `keys_kernel` logits and weights are transposed, (BLOCK_S, BLOCK_T): so they come out of one
product in the registers in which the next one takes its first factor.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._attention_tiles import (
    LOG2E,
    load_rows,
    load_tile,
    sequence,
    store_tile,
    visible_pairs,
    which_tile,
)
from minillm_kernels.triton._tune import Choice, autotune

__all__ = ["delta_kernel", "keys_kernel", "queries_kernel"]


def _choice(sizes, warps, stages, heads=(16, 32, 64, 128), fused=(True, False), arches=(90,)):
    """A choice for these widths D0 of heads: those where the offline compiler found no spills."""

    def fits(arguments, arch):
        numbers = arguments["dout"].base if arguments["TMA"] else arguments["dout"]
        slow = arguments["EXPLICIT"] or arguments["MASK"] or numbers.dtype.itemsize > 2
        if arches == SMALL:
            return slow or not arguments["TMA"] if sizes["BLOCK_S"] == 32 else not slow
        return (
            not slow
            and arguments["D0"] in heads
            and arguments.get("FUSED", False) in fused
            and not (arch == 90 and not arguments["TMA"])
        )

    return Choice(sizes, warps, stages, arches, fits)


def _keys(block_t, block_s, one_loop, *rest, **limits):
    return _choice({"BLOCK_T": block_t, "BLOCK_S": block_s, "ONE_LOOP": one_loop}, *rest, **limits)


def _queries(block_t, block_s, *rest, **limits):
    return _choice({"BLOCK_T": block_t, "BLOCK_S": block_s}, *rest, **limits)


SMALL = (75, 80, 90)
NARROW = (16, 32, 64)
KEYS = [
    _keys(64, 64, True, 4, 2, arches=SMALL),
    _keys(32, 32, True, 4, 1, arches=SMALL),
    _keys(64, 128, True, 8, 2),
    _keys(64, 64, True, 8, 2, heads=(128,)),
    _keys(128, 128, True, 8, 2, heads=NARROW),
    _keys(64, 128, False, 8, 2, heads=NARROW),
    _keys(64, 128, True, 8, 3, heads=NARROW),
    _keys(128, 64, True, 4, 2, heads=NARROW, fused=(False,)),
]
QUERIES = [
    _queries(64, 64, 4, 2, arches=SMALL),
    _queries(32, 32, 4, 1, arches=SMALL),
    _queries(128, 64, 8, 2),
    _queries(128, 64, 8, 3),
    _queries(64, 128, 4, 2),
    _queries(128, 128, 8, 2, heads=NARROW),
    _queries(128, 64, 4, 2, heads=NARROW),
]
KEY = ["size_class", "CAUSAL", "D0", "D1", "TMA", "EXPLICIT", "MASK", "PRECISION"]


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
    # of a query past the end log_sum is inf, and so its weights are exp(-inf) = 0
    log_sum = load_rows(lse, t, T, BLOCK_T, float("inf")) * LOG2E
    rows = (t + tl.arange(0, BLOCK_T))[None, :]
    cols = (s + tl.arange(0, BLOCK_S))[:, None]
    logits = logits * qk_scale
    if BIAS:
        inside = (rows < T) & (cols < S)
        at = bias + rows.to(tl.int64) * bias_t + cols * bias_s
        logits += tl.load(at, mask=inside, other=0.0).to(ACC) * LOG2E
    weights = tl.exp2(logits - log_sum[None, :])
    if EDGE:
        seen = visible_pairs(rows, cols, T, S, diagonal, mask, mask_t, mask_s, CAUSAL, MASK)
        weights = tl.where(seen, weights, 0.0)
    do0 = load_tile(dout, batch, head, t, T, dout_t, 0, D0, DV, BLOCK_T, TMA, WIDEN)
    factors = weights.to(do0.dtype)
    dv0 = tl.dot(factors, do0, dv0, input_precision=PRECISION, out_dtype=ACC)
    dweights = tl.dot(v0, do0.T, input_precision=PRECISION, out_dtype=ACC)
    if D1 > 0:
        do1 = load_tile(dout, batch, head, t, T, dout_t, D0, D1, DV, BLOCK_T, TMA, WIDEN)
        dv1 = tl.dot(factors, do1, dv1, input_precision=PRECISION, out_dtype=ACC)
        dweights = tl.dot(v1, do1.T, dweights, input_precision=PRECISION, out_dtype=ACC)
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
                dout_t, dq_t, bias_t, bias_s, mask_t, mask_s, FUSED, TMA_ADDS, CAUSAL, EXPLICIT, BIAS, MASK,
                True, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T, BLOCK_S,
            )  # fmt: skip
        if not ONE_LOOP:
            for t in tl.range(full, T, BLOCK_T):
                dk0, dk1, dv0, dv1 = keys_step(
                    dk0, dk1, dv0, dv1, k0, k1, v0, v1, q_here, dout_here, lse_here, delta_here,
                    dq_here, bias_here, mask_here, b32, h, t, s, T, S, diagonal, scale, qk_scale, q_t,
                    dout_t, dq_t, bias_t, bias_s, mask_t, mask_s, FUSED, TMA_ADDS, CAUSAL, EXPLICIT, BIAS, MASK,
                    False, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T, BLOCK_S,
                )  # fmt: skip
    store_tile(dk, dk0 * scale, s, S, dk_t, 0, D0, D, BLOCK_S)
    store_tile(dv, dv0, s, S, dv_t, 0, D0, DV, BLOCK_S)
    if D1 > 0:
        store_tile(dk, dk1 * scale, s, S, dk_t, D0, D1, D, BLOCK_S)
        store_tile(dv, dv1, s, S, dv_t, D0, D1, DV, BLOCK_S)


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
    weights = tl.exp2(logits - log_sum[:, None])
    if EDGE:
        seen = visible_pairs(rows, cols, T, S, diagonal, mask, mask_t, mask_s, CAUSAL, MASK)
        weights = tl.where(seen, weights, 0.0)
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
            EXPLICIT, BIAS, MASK, True, TMA, WIDEN, ACC, PRECISION, D, DV, D0, D1, BLOCK_T,
            BLOCK_S,
        )  # fmt: skip
    store_tile(dq, dq0 * scale, t, T, dq_t, 0, D0, D, BLOCK_T)
    if D1 > 0:
        store_tile(dq, dq1 * scale, t, T, dq_t, D0, D1, D, BLOCK_T)

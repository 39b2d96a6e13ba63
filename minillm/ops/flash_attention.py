"""Attention block by block (Dao et al. 2022, arXiv:2205.14135, alg. 1 to 4).

The softmax is normalised online (Milakov & Gimelshein 2018, arXiv:1805.02867, alg. 3); queries are
the outer loop, here in backward too, and the division comes last (Dao 2023, arXiv:2307.08691,
alg. 1; its alg. 2 has keys outside).
Left out: dropout and the weights themselves; the same function has them in
scaled_dot_product_attention.py.
"""

import math

import numpy as np

from minillm.ops._attention import check_attention, hide, regroup
from minillm.ops._op import op, sum_to_shape


@op
def flash_attention(q, k, v, bias=None, *, causal=False, mask=None, scale=None, block=128):
    """Attend without ever holding all (T, S) weights: memory grows with T + S, not with T * S.

    Equation: out = softmax(scale * q @ k.T + bias) @ v

    A query that may see no key at all gets zeros. Backward makes each block's weights again.

    Parameters
    ----------
    q : (B, H, T, D)
    k : (B, G, S, D), H a multiple of G; query head h reads key/value head h // (H // G)
    v : (B, G, S, any)
    bias : None or (B, H, T, S), 1 in any place; -inf hides a pair
    causal : bool, query t sees the keys s <= t + S - T: the last query sees all keys
    mask : None or bool (B, H, T, S), 1 in any place; True = may attend
    scale : float, by default 1 / sqrt(D)
    block : int, queries and keys that meet at a time

    Returns
    -------
    out : (B, H, T, any)

    Raises
    ------
    ValueError
        for shapes that do not fit together, a mask that is not bool, or block < 1.
    """
    check_attention(q, k, v, bias, mask)
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    diagonal = S - T if causal else None
    out = np.zeros((B, H, T, v.shape[3]), q.dtype, like=q)
    log_sum = np.zeros((B, H, T, 1), q.dtype, like=q)
    for rows in blocks(T, block):
        # of the keys so far: the largest logit, and sums of weights exp(logit - peak)
        peak = np.full_like(log_sum[:, :, rows], -np.inf)  # (B, H, block, 1)
        total = np.zeros_like(peak)
        mixed = np.zeros_like(out[:, :, rows])  # (B, H, block, any)
        for cols in visible_blocks(rows, S, block, diagonal):
            logits = block_logits(q, k, bias, mask, scale, diagonal, rows, cols)
            before, peak = peak, np.maximum(peak, logits.max(-1, keepdims=True))
            finite = np.where(peak == -np.inf, 0, peak)  # -inf - -inf is no number
            weights = np.exp(logits - finite)  # (B, H, block, block)
            fade = np.exp(before - finite)  # what was summed below a lower peak counts less
            total = fade * total + weights.sum(-1, keepdims=True)
            mixed = fade * mixed + regroup(regroup(weights, G) @ v[:, :, cols], H)
        seen = total > 0
        total = np.where(seen, total, 1)
        out[:, :, rows] = mixed / total
        # where nothing was seen any number does: backward's logits are -inf again, its weights 0
        log_sum[:, :, rows] = np.where(seen, peak + np.log(total), 0)
    return out, (q, k, v, bias, mask, scale, diagonal, block, out, log_sum)


@flash_attention.defbackward
def flash_attention_backward(dout, cache):
    q, k, v, bias, mask, scale, diagonal, block, out, log_sum = cache
    H, G, T, S = q.shape[1], k.shape[1], q.shape[2], k.shape[2]
    dq, dk, dv = (np.zeros(x.shape, x.dtype, like=x) for x in (q, k, v))
    dbias = None if bias is None else np.zeros(bias.shape, bias.dtype, like=bias)
    # softmax's backward subtracts sum(weights * dweights) over all keys, which is sum(dout * out)
    shared = (dout * out).sum(-1, keepdims=True)  # (B, H, T, 1)
    for rows in blocks(T, block):
        q_rows, dout_rows = regroup(q[:, :, rows], G), regroup(dout[:, :, rows], G)
        for cols in visible_blocks(rows, S, block, diagonal):
            # forward: weights = softmax(logits)
            logits = block_logits(q, k, bias, mask, scale, diagonal, rows, cols)
            weights = np.exp(logits - log_sum[:, :, rows])  # (B, H, block, block)
            # forward: out = weights @ v; a key/value head sums over the query heads that read it
            dv[:, :, cols] += regroup(weights, G).swapaxes(-1, -2) @ dout_rows
            dweights = regroup(dout_rows @ v[:, :, cols].swapaxes(-1, -2), H)
            dlogits = weights * (dweights - shared[:, :, rows])  # (B, H, block, block)
            # forward: logits = scale * q @ k.T + bias
            if bias is not None:
                dpart = part(dbias, rows, cols)
                dpart += sum_to_shape(dlogits, dpart.shape)
            dlogits = scale * regroup(dlogits, G)
            dq[:, :, rows] += regroup(dlogits @ k[:, :, cols], H)
            dk[:, :, cols] += dlogits.swapaxes(-1, -2) @ q_rows
    return dq, dk, dv, dbias


def block_logits(q, k, bias, mask, scale, diagonal, rows, cols):
    """The logits of some queries with some keys, hidden pairs at -inf: (B, H, block, block)."""
    grouped = regroup(q[:, :, rows], k.shape[1])
    logits = scale * regroup(grouped @ k[:, :, cols].swapaxes(-1, -2), q.shape[1])
    if bias is not None:
        logits = logits + part(bias, rows, cols)
    if diagonal is not None:
        diagonal = diagonal + rows.start - cols.start  # counted from this block's corner
    return hide(logits, None if mask is None else part(mask, rows, cols), diagonal)


def blocks(length, block):
    """Slices that cut a length into pieces of `block`, the last one perhaps shorter."""
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]


def visible_blocks(rows, keys, block, diagonal):
    """The key blocks of which these queries can see anything: none wholly above the diagonal."""
    if diagonal is not None:
        keys = min(keys, max(0, rows.stop + diagonal))  # the last query's last key, plus 1
    return blocks(keys, block)


def part(array, rows, cols):
    """One block of an array whose last two axes may also have length 1: a view."""
    T, S = array.shape[-2:]
    return array[:, :, rows if T != 1 else slice(None), cols if S != 1 else slice(None)]

"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2).

Grouped key/value heads after Ainslie et al. 2023 (arXiv:2305.13245); rotary positions inside.
Left out: what happens between queries and keys, see scaled_dot_product_attention.py.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops._params import pick, put_back
from minillm.ops.flash_attention import flash_attention
from minillm.ops.linear import linear
from minillm.ops.rotary import rotary
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention

NAMES = ("qkv.weight", "qkv.bias", "out.weight", "out.bias")


@op
def multi_head_attention(
    x,
    params,
    context=None,
    *,
    n_head,
    n_kv_head=None,
    causal=False,
    mask=None,
    rotary_base=None,
    positions=None,
    dropout=0.0,
    rng=None,
):
    """Project to queries, keys and values, let every head attend, and project back.

    Equation: out = concat(attention(q_h, k_h, v_h) for every head h) @ W_out + b_out

    Parameters
    ----------
    x : (B, T, C)
    params : dict, {"qkv": {"weight": (C, (H + 2G) D), "bias": ((H + 2G) D,) or None},
        "out": {"weight": (H D, C), "bias": (C,) or None}}; the columns of qkv are all query heads,
        then all key heads, then all value heads
    context : None or (B, S, C), what the keys and values are made of; None: of x (self attention)
    n_head : int, H
    n_kv_head : int, G, a divisor of H; by default H
    causal : bool, query t sees the keys s <= t + S - T
    mask : None or bool (B, H, T, S), 1 in any place; True = may attend
    rotary_base : float, or None for no rotary positions; self attention only
    positions : None (0, 1, ..., T - 1) or int (T,), for rotary
    dropout : float, probability with which an attention weight is dropped
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    out : (B, T, C)

    Raises
    ------
    ValueError
        for shapes or numbers of heads that do not fit together, or rotary with a context.
    """
    if rotary_base is not None and context is not None:
        raise ValueError("rotary_base must be None with a context: rotary is for self attention")
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    H, G = n_head, n_head if n_kv_head is None else n_kv_head
    end_of_q = H * head_size(x, W, b, W_out, H, G)
    b_q, b_kv = (None, None) if b is None else (b[:end_of_q], b[end_of_q:])
    q, cache_q = linear(x, W[:, :end_of_q], b_q)  # (B, T, H * D)
    kv, cache_kv = linear(x if context is None else context, W[:, end_of_q:], b_kv)
    k, v = np.split(kv, 2, axis=-1)  # (B, S, G * D) each
    q, k, v = split_heads(q, H), split_heads(k, G), split_heads(v, G)
    cache_rotary = None
    if rotary_base is not None:
        q, cache_rotary_q = rotary(q, positions=positions, base=rotary_base)
        k, cache_rotary_k = rotary(k, positions=positions, base=rotary_base)
        cache_rotary = cache_rotary_q, cache_rotary_k
    if dropout == 0 or rng is None:
        attend = flash_attention
        mixed, cache_mixed = attend(q, k, v, causal=causal, mask=mask)  # (B, H, T, D)
    else:
        attend = scaled_dot_product_attention
        mixed, cache_mixed = attend(q, k, v, causal=causal, mask=mask, dropout=dropout, rng=rng)
    out, cache_out = linear(join_heads(mixed), W_out, b_out)  # (B, T, C)
    self_attention = context is None
    caches = cache_q, cache_kv, cache_rotary, attend, cache_mixed, cache_out
    return out, (params, H, self_attention, caches)


@multi_head_attention.defbackward
def multi_head_attention_backward(dout, cache):
    params, H, self_attention, caches = cache
    cache_q, cache_kv, cache_rotary, attend, cache_mixed, cache_out = caches
    # forward: out = linear(join_heads(mixed), W_out, b_out)
    djoined, dW_out, db_out = linear.backward(dout, cache_out)
    # forward: mixed = attend(q, k, v)
    dq, dk, dv, _ = attend.backward(split_heads(djoined, H), cache_mixed)  # (B, H, T, D), ...
    # forward: q, k = rotary(q), rotary(k)
    if cache_rotary is not None:
        dq, dk = rotary.backward(dq, cache_rotary[0]), rotary.backward(dk, cache_rotary[1])
    # forward: q = linear(x, W_q, b_q); k, v = split(linear(context, W_kv, b_kv))
    dx, dW_q, db_q = linear.backward(join_heads(dq), cache_q)
    dkv = np.concatenate([join_heads(dk), join_heads(dv)], axis=-1)  # (B, S, 2 * G * D)
    dcontext, dW_kv, db_kv = linear.backward(dkv, cache_kv)
    if self_attention:
        dx, dcontext = dx + dcontext, None
    dW = np.concatenate([dW_q, dW_kv], axis=1)  # (C, (H + 2G) * D)
    db = None if db_q is None else np.concatenate([db_q, db_kv])
    return dx, put_back(params, NAMES, (dW, db, dW_out, db_out)), dcontext


def split_heads(x, heads):
    """(B, T, heads * D) -> (B, heads, T, D)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def join_heads(x):
    """(B, heads, T, D) -> (B, T, heads * D)."""
    batch, heads, rows, width = x.shape
    return x.swapaxes(1, 2).reshape(batch, rows, heads * width)


def head_size(x, W, b, W_out, H, G):
    """D, from the number of columns of the qkv weight.

    Raises
    ------
    ValueError
        for heads or shapes that do not fit together.
    """
    check_shape("x", x, (None, None, None))
    if H < 1 or G < 1 or H % G:
        raise ValueError(f"n_head must be a multiple of n_kv_head, got {H} and {G}")
    check_shape("params qkv.weight", W, (x.shape[-1], None))
    columns = W.shape[1]
    if columns == 0 or columns % (H + 2 * G):
        raise ValueError(
            f"params qkv.weight must have a multiple of {H + 2 * G} columns "
            f"(n_head + 2 n_kv_head), got {columns}"
        )
    if b is not None:
        check_shape("params qkv.bias", b, (columns,))
    size = columns // (H + 2 * G)
    check_shape("params out.weight", W_out, (H * size, x.shape[-1]))
    return size

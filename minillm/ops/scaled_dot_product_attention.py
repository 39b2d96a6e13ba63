"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

Key/value heads may be fewer than query heads (Ainslie et al. 2023, arXiv:2305.13245).
Left out: the same function without a (T, S) matrix, see flash_attention.py; the projections around
it, see multi_head_attention.py.
"""

import math

from minillm.ops._attention import check_attention, hide, regroup
from minillm.ops._op import op, sum_to_shape
from minillm.ops.dropout import dropout as drop
from minillm.ops.softmax import softmax


@op
def scaled_dot_product_attention(
    q, k, v, bias=None, *, causal=False, mask=None, scale=None, dropout=0.0, rng=None
):
    """Let each query average the values, weighted by how well their keys fit it.

    Equation: out = softmax(scale * q @ k.T + bias) @ v

    A query that may see no key at all gets zeros.

    Parameters
    ----------
    q : (B, H, T, D)
    k : (B, G, S, D), H a multiple of G; query head h reads key/value head h // (H // G)
    v : (B, G, S, any)
    bias : None or (B, H, T, S), 1 in any place; -inf hides a pair
    causal : bool, query t sees the keys s <= t + S - T: the last query sees all keys
    mask : None or bool (B, H, T, S), 1 in any place; True = may attend
    scale : float, by default 1 / sqrt(D)
    dropout : float, probability with which a weight is dropped
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    out : (B, H, T, any)

    Raises
    ------
    ValueError
        for shapes that do not fit together, or a mask that is not bool.
    """
    check_attention(q, k, v, bias, mask)
    (_, H, T, D), (_, G, S, _) = q.shape, k.shape
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    logits = scale * regroup(regroup(q, G) @ k.swapaxes(-1, -2), H)  # (B, H, T, S)
    if bias is not None:
        logits = logits + bias
    logits = hide(logits, mask, S - T if causal else None)
    weights, cache_softmax = softmax(logits)  # (B, H, T, S)
    kept, cache_dropout = drop(weights, p=dropout, rng=rng)
    out = regroup(regroup(kept, G) @ v, H)  # (B, H, T, any)
    return out, (q, k, v, bias, scale, kept, cache_softmax, cache_dropout)


@scaled_dot_product_attention.defbackward
def scaled_dot_product_attention_backward(dout, cache):
    q, k, v, bias, scale, kept, cache_softmax, cache_dropout = cache
    H, G = q.shape[1], k.shape[1]
    # forward: out = kept @ v; a key/value head sums over all the query heads that read it
    dout = regroup(dout, G)  # (B, G, H // G * T, any)
    dv = regroup(kept, G).swapaxes(-1, -2) @ dout
    dkept = regroup(dout @ v.swapaxes(-1, -2), H)  # (B, H, T, S)
    # forward: kept = dropout(weights); weights = softmax(logits)
    dweights = drop.backward(dkept, cache_dropout)
    dlogits = softmax.backward(dweights, cache_softmax)  # 0 where hidden: the weight is 0 there
    # forward: logits = scale * q @ k.T + bias
    dbias = None if bias is None else sum_to_shape(dlogits, bias.shape)
    dlogits = scale * regroup(dlogits, G)  # (B, G, H // G * T, S)
    dq = regroup(dlogits @ k, H)
    dk = dlogits.swapaxes(-1, -2) @ regroup(q, G)
    return dq, dk, dv, dbias

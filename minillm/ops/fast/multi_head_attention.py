"""multi_head_attention: one product makes queries, keys and values, and heads are views of it.

No head is copied to be split or joined. Cross attention, rotary positions, masks and dropout take
the reference's way through the ops.
"""

import numpy as np

from minillm.ops._op import register
from minillm.ops._params import pick, put_back
from minillm.ops._state import Registry
from minillm.ops.fast._attention import attend, attend_backward
from minillm.ops.fast.linear import linear, linear_backward
from minillm.ops.multi_head_attention import NAMES, head_size


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
    drops = dropout > 0 and rng is not None
    if context is not None or mask is not None or rotary_base is not None or drops or 0 in x.shape:
        out, saved = Registry.ops["multi_head_attention"]["numpy"][0](
            x,
            params,
            context,
            n_head=n_head,
            n_kv_head=n_kv_head,
            causal=causal,
            mask=mask,
            rotary_base=rotary_base,
            positions=positions,
            dropout=dropout,
            rng=rng,
        )
        return out, (None, saved)
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    H, G = n_head, n_head if n_kv_head is None else n_kv_head
    D = head_size(x, W, b, W_out, H, G)
    qkv, cache_qkv = linear(x, W, b)  # (B, T, (H + 2G) * D)
    q, k, v = heads_of(qkv, H, G, D)
    mixed = np.empty((*x.shape[:2], H * D), x.dtype)  # (B, T, H * D)
    lse = attend(q, k, v, D**-0.5, causal, heads_of(mixed, H, 0, D, G))
    out, cache_out = linear(mixed, W_out, b_out)
    return out, ((H, G, D, causal), (params, qkv, mixed, lse, cache_qkv, cache_out))


def multi_head_attention_backward(dout, cache):
    sizes, saved = cache
    if sizes is None:
        return Registry.ops["multi_head_attention"]["numpy"][1](dout, saved)
    H, G, D, causal = sizes
    params, qkv, mixed, lse, cache_qkv, cache_out = saved
    # forward: out = linear(mixed, W_out, b_out)
    dmixed, dW_out, db_out = linear_backward(dout, cache_out)
    # forward: mixed = attend(q, k, v), all of them views
    dqkv = np.empty_like(qkv)
    q, k, v = heads_of(qkv, H, G, D)
    views = heads_of(dmixed, H, 0, D, G), heads_of(mixed, H, 0, D, G)
    attend_backward(views[0], q, k, v, views[1], lse, D**-0.5, causal, *heads_of(dqkv, H, G, D))
    # forward: qkv = linear(x, W_qkv, b_qkv)
    dx, dW, db = linear_backward(dqkv, cache_qkv)
    return dx, put_back(params, NAMES, (dW, db, dW_out, db_out)), None


def heads_of(rows, H, G, D, groups=None):
    """Views of rows (B, T, (H + 2G) D): q (B, G, R, T, D), k and v (B, G, T, D).

    With G = 0 the rows are (B, T, H D) and there is q alone, in `groups` groups.
    """
    B, T, _ = rows.shape
    groups = groups or G
    q = rows[..., : H * D].reshape(B, T, groups, H // groups, D).transpose(0, 2, 3, 1, 4)
    if G == 0:
        return q
    k, v = rows[..., H * D :].reshape(B, T, 2, G, D).transpose(2, 0, 3, 1, 4)
    return q, k, v


register("multi_head_attention", "fast", multi_head_attention, multi_head_attention_backward)

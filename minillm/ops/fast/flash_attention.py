"""flash_attention by the passes of _attention.py; masks and biases go the reference's way."""

import math

import numpy as np

from minillm.ops._attention import check_attention
from minillm.ops._op import register
from minillm.ops._state import Registry
from minillm.ops.fast._attention import attend, attend_backward


def flash_attention(q, k, v, bias=None, *, causal=False, mask=None, scale=None, block=128):
    check_attention(q, k, v, bias, mask)
    (B, H, T, D), (_, G, S, _) = q.shape, k.shape
    if bias is not None or mask is not None or block < 1 or (causal and T > S) or 0 in q.shape:
        out, saved = Registry.ops["flash_attention"]["numpy"][0](
            q, k, v, bias, causal=causal, mask=mask, scale=scale, block=block
        )
        return out, (None, saved)
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    out = np.empty((B, H, T, v.shape[3]), q.dtype)
    lse = attend(group(q, G), k, v, scale, causal, group(out, G))
    return out, (scale, (q, k, v, causal, out, lse))


def flash_attention_backward(dout, cache):
    scale, saved = cache
    if scale is None:
        return Registry.ops["flash_attention"]["numpy"][1](dout, saved)
    q, k, v, causal, out, lse = saved
    G = k.shape[1]
    dq, dk, dv = np.empty(q.shape, q.dtype), np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype)
    attend_backward(
        group(dout, G), group(q, G), k, v, group(out, G), lse, scale, causal, group(dq, G), dk, dv
    )
    return dq, dk, dv, None


def group(x, G):
    """(B, H, T, D) as a view (B, G, H // G, T, D)."""
    B, H, T, D = x.shape
    b, h, t, d = x.strides
    shape, strides = (B, G, H // G, T, D), (b, h * (H // G), h, t, d)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


register("flash_attention", "fast", flash_attention, flash_attention_backward)

"""The op flash_attention of the backend "cupy": the attention ladder's tiled rung.

Heads of 16, 32, ... up to 128 channels run on rung 03 (float64: up to 80), other heads of up to 256
on rung 02. A bias, and wider heads, run the NumPy reference on the same arrays.
"""

import numpy as np

from minillm.ops._attention import check_attention
from minillm.ops._op import register
from minillm.ops._state import Registry
from minillm_kernels.cuda.attention import ONLINE, TILED, backward, forward, refusal
from minillm_kernels.require import emulated

__all__ = ["attend", "attend_backward", "can_attend", "check_place", "contiguous"]


def flash_attention(q, k, v, bias=None, *, causal=False, mask=None, scale=None, block=128):
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    if not can_attend(q, k, v, bias, mask):
        reference, _ = Registry.ops["flash_attention"]["numpy"]
        out, saved = reference(
            q, k, v, bias, causal=causal, mask=mask, scale=scale, block=block
        )  # fmt: skip
        return out, (False, saved)
    out, saved = attend(q, k, v, causal=causal, mask=mask, scale=scale)
    return out, (True, saved)


def flash_attention_backward(dout, cache):
    ours, saved = cache
    if not ours:
        return Registry.ops["flash_attention"]["numpy"][1](dout, saved)
    return attend_backward(dout, saved)


def can_attend(q, k, v, bias, mask):
    """Whether a rung takes these arguments, which are checked here as the reference checks them.

    Raises
    ------
    ValueError
        for arguments that do not fit together, or an array that no kernel can reach.
    """
    for name, array in (("q", q), ("k", k), ("v", v)):
        check_place(name, array)
    check_attention(q, k, v, bias, mask)
    return bias is None and rung_for(q, v) is not None


def rung_for(q, v):
    """The best rung that takes such heads; None if none does."""
    for rung in (TILED, ONLINE):
        if refusal(rung, q.dtype, q.shape[3], v.shape[3]) is None:
            return rung
    return None


def attend(q, k, v, *, causal, mask, scale):
    """The ladder's forward, for arrays that need not be contiguous."""
    q, k, v = map(contiguous, (q, k, v))
    return forward(rung_for(q, v), q, k, v, causal=causal, mask=mask, scale=scale)


def attend_backward(dout, saved):
    """The gradients of q, k, v, and None for the bias."""
    return *backward(contiguous(dout), saved), None


def check_place(name, array):
    """Refuse an array of the computer's memory where the kernels run on a GPU."""
    if isinstance(array, np.ndarray) and not emulated():
        raise ValueError(
            f"{name} must be a CuPy array, got a NumPy array, which lies in the computer's "
            "memory: send it to the GPU by cupy.asarray"
        )


def contiguous(array):
    return np.ascontiguousarray(array, like=array)


register("flash_attention", "cupy", flash_attention, flash_attention_backward)

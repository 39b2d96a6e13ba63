"""Scaled dot-product attention by flash attention's kernels: the same function, no (T, S) matrix.

Dropout takes the reference's way, because which weights are dropped is drawn on the host.
"""

from minillm.ops._op import register
from minillm_kernels.triton._attention_check import reference
from minillm_kernels.triton.flash_attention import flash_attention, flash_attention_backward

__all__ = ["scaled_dot_product_attention", "scaled_dot_product_attention_backward"]


def scaled_dot_product_attention(
    q, k, v, bias=None, *, causal=False, mask=None, scale=None, dropout=0.0, rng=None
):
    kwargs = {"causal": causal, "mask": mask, "scale": scale}
    if dropout != 0 and rng is not None:
        forward, _ = reference("scaled_dot_product_attention")
        out, saved = forward(q, k, v, bias, **kwargs, dropout=dropout, rng=rng)
        return out, ("reference", saved)
    out, saved = flash_attention(q, k, v, bias, **kwargs)
    return out, ("flash", saved)


def scaled_dot_product_attention_backward(dout, cache):
    by, saved = cache
    if by == "reference":
        return reference("scaled_dot_product_attention")[1](dout, saved)
    return flash_attention_backward(dout, saved)


register(
    "scaled_dot_product_attention",
    "triton",
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
)

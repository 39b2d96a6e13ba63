"""The op scaled_dot_product_attention of the backend "cupy": flash_attention's kernels.

Dropout and a bias run the NumPy reference on the same arrays, whose (T, S) weights they need.
"""

from minillm.ops._op import register
from minillm.ops._state import Registry
from minillm_kernels.cuda.flash_attention import attend, attend_backward, can_attend


def scaled_dot_product_attention(
    q, k, v, bias=None, *, causal=False, mask=None, scale=None, dropout=0.0, rng=None
):
    drops = not (dropout == 0 or (rng is None and 0 < dropout < 1))
    if not can_attend(q, k, v, bias, mask) or drops:
        reference, _ = Registry.ops["scaled_dot_product_attention"]["numpy"]
        options = {"causal": causal, "mask": mask, "scale": scale}
        out, saved = reference(q, k, v, bias, **options, dropout=dropout, rng=rng)
        return out, (False, saved)
    out, saved = attend(q, k, v, causal=causal, mask=mask, scale=scale)
    return out, (True, saved)


def scaled_dot_product_attention_backward(dout, cache):
    ours, saved = cache
    if not ours:
        return Registry.ops["scaled_dot_product_attention"]["numpy"][1](dout, saved)
    return attend_backward(dout, saved)


register(
    "scaled_dot_product_attention",
    "cupy",
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
)

"""The gated feed-forward layer of LLaMA (Shazeer 2020, arXiv:2002.05202, eq. 6, FFN_SwiGLU).

Here it is its parts in sequence. Left out: biases, which the paper omits too; the other gates of
its eq. 6; the ungated form, see mlp_gelu.py.
"""

from minillm.ops._op import check_shape, op
from minillm.ops.linear import linear
from minillm.ops.silu import silu


@op
def swiglu(x, weight_gate, weight_up, weight_down):
    """Widen each row twice, let one half gate the other, and narrow the product.

    Equation: y = (silu(x @ weight_gate) * (x @ weight_up)) @ weight_down

    Parameters
    ----------
    x : (..., C)
    weight_gate, weight_up : (C, F)
    weight_down : (F, C_out)

    Returns
    -------
    y : (..., C_out)

    Raises
    ------
    ValueError
        where the widths do not fit one another.
    """
    check_shape("weight_gate", weight_gate, (*x.shape[-1:], None))
    check_shape("weight_up", weight_up, weight_gate.shape)
    check_shape("weight_down", weight_down, (weight_up.shape[1], None))
    before, gate_cache = linear(x, weight_gate, None)  # (..., F)
    gate, silu_cache = silu(before)  # (..., F)
    wide, up_cache = linear(x, weight_up, None)  # (..., F)
    y, down_cache = linear(gate * wide, weight_down, None)  # (..., C_out)
    return y, (gate, wide, gate_cache, silu_cache, up_cache, down_cache)


@swiglu.defbackward
def swiglu_backward(dy, cache):
    gate, wide, gate_cache, silu_cache, up_cache, down_cache = cache
    # forward: y = linear(gate * wide, weight_down)
    dproduct, dweight_down, _ = linear.backward(dy, down_cache)  # (..., F)
    dgate, dwide = dproduct * wide, dproduct * gate  # (..., F) each
    # forward: wide = linear(x, weight_up)
    dx_up, dweight_up, _ = linear.backward(dwide, up_cache)  # (..., C)
    # forward: gate = silu(linear(x, weight_gate))
    dx_gate, dweight_gate, _ = linear.backward(silu.backward(dgate, silu_cache), gate_cache)
    return dx_gate + dx_up, dweight_gate, dweight_up, dweight_down

"""The transformer's feed-forward layer (Vaswani et al. 2017, arXiv:1706.03762, eq. 2).

With GELU for its rectifier, as in GPT (Radford, Narasimhan, Salimans & Sutskever 2018, section
4.1). Here it is its parts in sequence. Left out: dropout; the gated form, see swiglu.py.
"""

from minillm.ops._op import check_shape, op
from minillm.ops.gelu import gelu
from minillm.ops.linear import linear


@op
def mlp_gelu(x, weight_up, bias_up, weight_down, bias_down, *, approximate="tanh"):
    """Widen each row, pass it through GELU and narrow it again.

    Equation: y = gelu(x @ weight_up + bias_up) @ weight_down + bias_down

    Parameters
    ----------
    x : (..., C)
    weight_up : (C, F)
    bias_up : (F,) or None
    weight_down : (F, C_out)
    bias_down : (C_out,) or None
    approximate : "none" or "tanh", as in gelu

    Returns
    -------
    y : (..., C_out)

    Raises
    ------
    ValueError
        where the widths do not fit one another, and for another `approximate`.
    """
    check_shape("weight_up", weight_up, (*x.shape[-1:], None))
    check_shape("weight_down", weight_down, (weight_up.shape[1], None))
    if bias_up is not None:
        check_shape("bias_up", bias_up, weight_up.shape[1:])
    if bias_down is not None:
        check_shape("bias_down", bias_down, weight_down.shape[1:])
    wide, up_cache = linear(x, weight_up, bias_up)  # (..., F)
    active, gelu_cache = gelu(wide, approximate=approximate)  # (..., F)
    y, down_cache = linear(active, weight_down, bias_down)  # (..., C_out)
    return y, (up_cache, gelu_cache, down_cache)


@mlp_gelu.defbackward
def mlp_gelu_backward(dy, cache):
    up_cache, gelu_cache, down_cache = cache
    # forward: y = linear(active, weight_down, bias_down)
    dactive, dweight_down, dbias_down = linear.backward(dy, down_cache)
    # forward: active = gelu(wide)
    dwide = gelu.backward(dactive, gelu_cache)  # (..., F)
    # forward: wide = linear(x, weight_up, bias_up)
    dx, dweight_up, dbias_up = linear.backward(dwide, up_cache)
    return dx, dweight_up, dbias_up, dweight_down, dbias_down

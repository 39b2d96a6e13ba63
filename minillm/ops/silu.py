"""The sigmoid linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2).

Ramachandran, Zoph & Le 2017, arXiv:1710.05941, call it swish with beta = 1. Left out: a learned
beta; the gated pair of LLaMA, see swiglu.py.
"""

from minillm.ops._op import op
from minillm.ops.sigmoid import sigmoid


@op
def silu(x):
    """Let each value through as far as its own sigmoid opens.

    Equation: y = x * sigmoid(x)

    Parameters
    ----------
    x : (...)

    Returns
    -------
    y : (...)
    """
    gate, sigmoid_cache = sigmoid(x)  # (...)
    return x * gate, (x, gate, sigmoid_cache)


@silu.defbackward
def silu_backward(dy, cache):
    x, gate, sigmoid_cache = cache
    # forward: y = x * gate
    dx = dy * gate
    dgate = dy * x
    # forward: gate = sigmoid(x)
    return dx + sigmoid.backward(dgate, sigmoid_cache)

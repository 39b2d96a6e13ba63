"""Layer normalisation (Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4) in Triton.

The kernels are in _norm_kernels.py. Forward reads and writes N C elements, backward reads 2 N C and
writes N C: at 8 operations or so for each element the memory decides.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton import _norm

__all__ = ["layer_norm", "layer_norm_backward"]


@on_tensors
def layer_norm(x, gain, bias, *, eps=1e-5):
    """Give each row of x zero mean and unit variance, then scale and shift it.

    Parameters
    ----------
    x : (..., C) float16, bfloat16, float32 or float64
    gain, bias : (C,), of x's dtype or another one
    eps : float, keeps a constant row finite

    Returns
    -------
    y : (..., C)

    Raises
    ------
    ValueError
        where shapes or dtypes do not fit.
    """
    y, _, saved = _norm.forward("layer_norm", x, None, gain, bias, eps)
    return y, saved


@on_tensors.backward
def layer_norm_backward(dy, cache):
    return _norm.backward("layer_norm_backward", dy, None, cache)


def configurations():
    """What the launchers compile at GPT-2's width, and for rows that fit no registers."""
    return _norm.compiled(centred=True, added=False)


register("layer_norm", "triton", layer_norm, layer_norm_backward)

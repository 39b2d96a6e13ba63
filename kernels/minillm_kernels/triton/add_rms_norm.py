"""A residual sum and its RMS norm in one pass (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4).

What that saves is counted in add_layer_norm.py. The kernels are in _norm_kernels.py.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton import _norm

__all__ = ["add_rms_norm", "add_rms_norm_backward"]


@on_tensors
def add_rms_norm(x, residual, gain, *, eps=1e-5):
    """Add two arrays and normalise the rows of their sum.

    Parameters
    ----------
    x, residual : (..., C) float16, bfloat16, float32 or float64
    gain : (C,), of x's dtype or another one
    eps : float, keeps a row of zeros finite

    Returns
    -------
    y, total : (..., C)

    Raises
    ------
    ValueError
        where shapes or dtypes do not fit.
    """
    y, total, saved = _norm.forward("add_rms_norm", x, residual, gain, None, eps)
    return (y, total), (saved, total.shape)


@on_tensors.backward
def add_rms_norm_backward(dout, cache):
    (dy, dtotal), (saved, shape) = dout, cache
    dtotal, dgain, _ = _norm.backward("add_rms_norm_backward", dy, dtotal, saved, shape)
    return dtotal, dtotal, dgain


def configurations():
    """What the launchers compile at GPT-2's width."""
    return _norm.compiled(centred=False, added=True)


register("add_rms_norm", "triton", add_rms_norm, add_rms_norm_backward)

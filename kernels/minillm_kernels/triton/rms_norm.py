"""Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4) in Triton.

The kernels are in _norm_kernels.py, without their centring. Forward reads and writes N C elements,
backward reads 2 N C and writes N C.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton import _norm

__all__ = ["rms_norm", "rms_norm_backward"]


@on_tensors
def rms_norm(x, gain, *, eps=1e-5):
    """Give each row of x a mean square of one, then scale it.

    Parameters
    ----------
    x : (..., C) float16, bfloat16, float32 or float64
    gain : (C,), of x's dtype or another one
    eps : float, keeps a row of zeros finite

    Returns
    -------
    y : (..., C)

    Raises
    ------
    ValueError
        where shapes or dtypes do not fit.
    """
    y, _, saved = _norm.forward("rms_norm", x, None, gain, None, eps)
    return y, saved


@on_tensors.backward
def rms_norm_backward(dy, cache):
    dx, dgain, _ = _norm.backward("rms_norm_backward", dy, None, cache)
    return dx, dgain


def configurations():
    """What the launchers compile at GPT-2's width."""
    return _norm.compiled(centred=False, added=False)


register("rms_norm", "triton", rms_norm, rms_norm_backward)

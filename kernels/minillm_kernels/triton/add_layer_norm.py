"""A residual sum and its layer norm in one pass (Xiong et al. 2020, arXiv:2002.04745, fig. 1b).

Apart, the sum reads 2 N C and writes N C elements, and the norm reads and writes N C again: 5 N C.
Together they read 2 N C and write 2 N C. Backward adds the upstream gradient of the sum as it
writes dx, and reads 3 N C and writes N C in place of 4 N C and 2 N C. The kernels are in
_norm_kernels.py.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton import _norm

__all__ = ["add_layer_norm", "add_layer_norm_backward"]


@on_tensors
def add_layer_norm(x, residual, gain, bias, *, eps=1e-5):
    """Add two arrays and normalise the rows of their sum.

    Parameters
    ----------
    x, residual : (..., C) float16, bfloat16, float32 or float64
    gain, bias : (C,), of x's dtype or another one
    eps : float, keeps a constant row finite

    Returns
    -------
    y, total : (..., C)

    Raises
    ------
    ValueError
        where shapes or dtypes do not fit.
    """
    y, total, saved = _norm.forward("add_layer_norm", x, residual, gain, bias, eps)
    return (y, total), (saved, total.shape)


@on_tensors.backward
def add_layer_norm_backward(dout, cache):
    (dy, dtotal), (saved, shape) = dout, cache
    dtotal, dgain, dbias = _norm.backward("add_layer_norm_backward", dy, dtotal, saved, shape)
    return dtotal, dtotal, dgain, dbias


def configurations():
    """What the launchers compile at GPT-2's width."""
    return _norm.compiled(centred=True, added=True)


register("add_layer_norm", "triton", add_layer_norm, add_layer_norm_backward)

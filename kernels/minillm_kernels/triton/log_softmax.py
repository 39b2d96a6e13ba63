"""The logarithm of softmax, shifted (Blanchard, Higham & Higham 2021, arXiv:1909.03469), in Triton.

The kernels are softmax's, which see. Forward reads and writes N C elements, backward reads 2 N C
and writes N C.
"""

from minillm.ops._op import register
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton.softmax import backward, compiled, forward

__all__ = ["log_softmax", "log_softmax_backward"]


@on_tensors
def log_softmax(x, *, axis=-1):
    """Turn scores into log-probabilities along an axis.

    Parameters
    ----------
    x : (...) float16, bfloat16, float32 or float64
    axis : int

    Returns
    -------
    y : (...)
    """
    return forward("log_softmax", x, axis, True)


@on_tensors.backward
def log_softmax_backward(dy, cache):
    return backward("log_softmax_backward", dy, cache, True)


def configurations():
    """What the launchers compile."""
    return compiled(True)


register("log_softmax", "triton", log_softmax, log_softmax_backward)

"""Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4).

Left out: the centring, see layer_norm.py; the fused residual add, see add_rms_norm.py; their
partial RMSNorm, which estimates the mean square from a part of each row.
"""

import numpy as np

from minillm.ops._op import check_shape, op, sum_to_shape


@op
def rms_norm(x, gain, *, eps=1e-5):
    """Give each row of x a mean square of one, then scale it.

    Equation: y = gain * x / sqrt(mean(x^2) + eps)

    Parameters
    ----------
    x : (..., C)
    gain : (C,)
    eps : float, keeps a row of zeros finite

    Returns
    -------
    y : (..., C)

    Raises
    ------
    ValueError
        where the gain does not fit x.
    """
    check_shape("gain", gain, x.shape[-1:])
    inv_rms = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)  # (..., 1)
    normed = x * inv_rms  # (..., C)
    return normed * gain, (normed, inv_rms, gain)


@rms_norm.defbackward
def rms_norm_backward(dy, cache):
    normed, inv_rms, gain = cache
    # forward: y = normed * gain
    dgain = sum_to_shape(dy * normed, gain.shape)  # (C,)
    dnormed = dy * gain  # (..., C)
    # forward: normed = x * inv_rms; inv_rms depends on x too, and takes its share back
    dx = inv_rms * (dnormed - normed * (dnormed * normed).mean(-1, keepdims=True))  # (..., C)
    return dx, dgain

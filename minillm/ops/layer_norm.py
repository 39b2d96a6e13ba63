"""Layer normalisation (Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4).

Left out: RMSNorm, see rms_norm.py; the fused residual add, see add_layer_norm.py.
"""

import numpy as np

from minillm.ops._op import check_shape, op, sum_to_shape


@op
def layer_norm(x, gain, bias, *, eps=1e-5):
    """Give each row of x zero mean and unit variance, then scale and shift it.

    Equation: y = gain * (x - mean(x)) / sqrt(var(x) + eps) + bias

    Parameters
    ----------
    x : (..., C)
    gain, bias : (C,)
    eps : float, keeps a constant row finite

    Returns
    -------
    y : (..., C)
    """
    check_shape("gain", gain, x.shape[-1:])
    check_shape("bias", bias, x.shape[-1:])
    centred = x - x.mean(-1, keepdims=True)  # (..., C)
    inv_std = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)  # (..., 1)
    normed = centred * inv_std  # (..., C)
    return normed * gain + bias, (normed, inv_std, gain)


@layer_norm.defbackward
def layer_norm_backward(dy, cache):
    normed, inv_std, gain = cache
    # forward: y = normed * gain + bias
    dgain = sum_to_shape(dy * normed, gain.shape)  # (C,)
    dbias = sum_to_shape(dy, gain.shape)  # (C,)
    dnormed = dy * gain  # (..., C)
    # forward: normed = (x - mean(x)) / std(x); mean and std depend on x and take their share back
    dx = inv_std * (
        dnormed
        - dnormed.mean(-1, keepdims=True)
        - normed * (dnormed * normed).mean(-1, keepdims=True)
    )  # (..., C)
    return dx, dgain, dbias

"""A residual sum and its RMS norm in one op (Xiong et al. 2020, arXiv:2002.04745, figure 1b).

RMS norm is that of Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4. Here the op is its parts in
sequence; another backend reads the sum once. Both are returned, since the next residual sum starts
from this one. Left out: dropout before the sum.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops.rms_norm import rms_norm


@op
def add_rms_norm(x, residual, gain, *, eps=1e-5):
    """Add two arrays and normalise the rows of their sum.

    Equation: total = x + residual, y = rms_norm(total; gain)

    Parameters
    ----------
    x, residual : (..., C)
    gain : (C,)
    eps : float, keeps a row of zeros finite

    Returns
    -------
    y, total : (..., C)

    Raises
    ------
    ValueError
        where the shapes do not fit one another.
    """
    check_shape("residual", residual, x.shape)
    total = x + residual  # (..., C)
    y, norm_cache = rms_norm(total, gain, eps=eps)  # (..., C)
    return (y, total), (total, norm_cache)


@add_rms_norm.defbackward
def add_rms_norm_backward(dout, cache):
    total, norm_cache = cache
    dy, dtotal = (np.zeros_like(total) if d is None else d for d in dout)  # (..., C) each
    # forward: y = rms_norm(total, gain)
    through_norm, dgain = rms_norm.backward(dy, norm_cache)  # (..., C), (C,)
    # forward: total = x + residual; the sum is used twice, by the norm and as an output
    dtotal = dtotal + through_norm  # (..., C)
    return dtotal, dtotal, dgain

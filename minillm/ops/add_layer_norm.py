"""A residual sum and its layer norm in one op (Xiong et al. 2020, arXiv:2002.04745, figure 1b).

Layer norm is that of Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 4. Here the op is its parts in
sequence; another backend reads the sum once. Both are returned, since the next residual sum starts
from this one. Left out: dropout before the sum.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops.layer_norm import layer_norm


@op
def add_layer_norm(x, residual, gain, bias, *, eps=1e-5):
    """Add two arrays and normalise the rows of their sum.

    Equation: total = x + residual, y = layer_norm(total; gain, bias)

    Parameters
    ----------
    x, residual : (..., C)
    gain, bias : (C,)
    eps : float, keeps a constant row finite

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
    y, norm_cache = layer_norm(total, gain, bias, eps=eps)  # (..., C)
    return (y, total), (total, norm_cache)


@add_layer_norm.defbackward
def add_layer_norm_backward(dout, cache):
    total, norm_cache = cache
    dy, dtotal = (np.zeros_like(total) if d is None else d for d in dout)  # (..., C) each
    # forward: y = layer_norm(total, gain, bias)
    through_norm, dgain, dbias = layer_norm.backward(dy, norm_cache)  # (..., C), (C,), (C,)
    # forward: total = x + residual; the sum is used twice, by the norm and as an output
    dtotal = dtotal + through_norm  # (..., C)
    return dtotal, dtotal, dgain, dbias

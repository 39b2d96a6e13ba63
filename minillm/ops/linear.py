"""The affine map (Rumelhart, Hinton & Williams 1986, Nature 323, eq. 1; eqs. 6 and 7 for backward).

The weight lies as (C_in, C_out), as in GPT-2's published checkpoints: no line transposes it.
Left out: an output head tied to an embedding, with weight (V, C): see linear_cross_entropy.py.
"""

from minillm.ops._op import check_shape, op, sum_to_shape


@op
def linear(x, weight, bias=None):
    """Map each row of x from C_in channels to C_out.

    Equation: y = x @ weight + bias

    Parameters
    ----------
    x : (..., C_in)
    weight : (C_in, C_out)
    bias : (C_out,) or None

    Returns
    -------
    y : (..., C_out)

    Raises
    ------
    ValueError
        where the widths do not fit one another.
    """
    check_shape("weight", weight, (*x.shape[-1:], None))
    y = x @ weight  # (..., C_out)
    if bias is not None:
        check_shape("bias", bias, weight.shape[1:])
        y = y + bias
    return y, (x, weight, bias)


@linear.defbackward
def linear_backward(dy, cache):
    x, weight, bias = cache
    c_in, c_out = weight.shape
    # forward: y = x @ weight + bias
    dx = dy @ weight.T  # (..., C_in)
    # Each row of x met the same weight: one product sums over all of them.
    dweight = x.reshape(-1, c_in).T @ dy.reshape(-1, c_out)  # (C_in, C_out)
    dbias = None if bias is None else sum_to_shape(dy, bias.shape)  # (C_out,)
    return dx, dweight, dbias

"""Mean squared error (Rumelhart, Hinton & Williams 1986, Nature 323, eq. 3).

Their factor 1/2 and sum over cases are a mean here. Left out: weights; no reduction.
"""

from minillm.ops._op import check_shape, op


@op
def mse(prediction, target):
    """Mean over all elements of the squared difference.

    Equation: loss = mean((prediction - target)^2)

    Parameters
    ----------
    prediction, target : (...)

    Returns
    -------
    loss : scalar

    Raises
    ------
    ValueError
        where the shapes differ.
    """
    check_shape("target", target, prediction.shape)
    difference = prediction - target  # (...)
    return (difference * difference).sum() / max(difference.size, 1), difference


@mse.defbackward
def mse_backward(dloss, difference):
    # forward: loss = sum((prediction - target)^2) / size
    dprediction = dloss * (2 / max(difference.size, 1)) * difference  # (...)
    return dprediction, -dprediction

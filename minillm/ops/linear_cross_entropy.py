"""The output head and its loss in one op (as in Wijmans et al. 2024, arXiv:2411.09009, section 4).

Here it is its parts in sequence, and holds all (..., V) logits; another backend need not. The
weight is (V, C), a row for each token, so that it can be the embedding's. Left out: soft-capped
logits.
"""

from minillm.ops._check import check_integers
from minillm.ops._op import check_shape, op
from minillm.ops.cross_entropy import cross_entropy
from minillm.ops.linear import linear


@op
def linear_cross_entropy(x, weight, bias=None, *, targets, ignore_index=-100, label_smoothing=0.0):
    """Mean surprise at the targets, in nats, when each row of x is scored against every token.

    Equation: loss = cross_entropy(x @ weight^T + bias, targets)

    Parameters
    ----------
    x : (..., C)
    weight : (V, C)
    bias : (V,) or None
    targets : (...) integers in [0, V), or `ignore_index` for a token that does not count
    ignore_index, label_smoothing : as in cross_entropy

    Returns
    -------
    loss : scalar

    Raises
    ------
    ValueError
        where the shapes do not fit one another, and as cross_entropy does.
    """
    check_shape("weight", weight, (None, *x.shape[-1:]))
    check_integers("targets", targets, x.shape[:-1])
    logits, linear_cache = linear(x, weight.T, bias)  # (..., V)
    loss, loss_cache = cross_entropy(
        logits, targets=targets, ignore_index=ignore_index, label_smoothing=label_smoothing
    )  # scalar
    return loss, (linear_cache, loss_cache)


@linear_cross_entropy.defbackward
def linear_cross_entropy_backward(dloss, cache):
    linear_cache, loss_cache = cache
    # forward: loss = cross_entropy(logits)
    dlogits = cross_entropy.backward(dloss, loss_cache)  # (..., V)
    # forward: logits = linear(x, weight.T, bias)
    dx, dweight_t, dbias = linear.backward(dlogits, linear_cache)  # (..., C), (C, V), (V,)
    return dx, dweight_t.T, dbias

"""Cross-entropy of a logistic unit (Bishop 2006, Pattern Recognition, eq. 4.90; 4.91 for backward).

From the logit: the logarithm of a probability that was rounded to 0 is lost. Left out: weights for
rare positives.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops.sigmoid import sigmoid


@op
def binary_cross_entropy(logits, *, targets):
    """Mean surprise, in nats, at yes-or-no targets.

    Equation: loss = -mean(t * log(sigmoid(x)) + (1 - t) * log(1 - sigmoid(x)))

    Parameters
    ----------
    logits : (...)
    targets : (...) in [0, 1]: bools, integers or floats

    Returns
    -------
    loss : scalar

    Raises
    ------
    ValueError
        where the shapes differ.
    """
    check_shape("targets", targets, logits.shape)
    targets = targets.astype(logits.dtype)  # (...)
    # The equation with -log(sigmoid(x)) = max(-x, 0) + log(1 + exp(-|x|)), which cannot overflow.
    nats = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))  # (...)
    return nats.sum() / max(logits.size, 1), (logits, targets)


@binary_cross_entropy.defbackward
def binary_cross_entropy_backward(dloss, cache):
    logits, targets = cache
    # forward: loss = sum(log(1 + exp(x)) - t * x) / size; log(1 + exp(x)) has slope sigmoid(x)
    probs, _ = sigmoid(logits)  # (...)
    return dloss / max(logits.size, 1) * (probs - targets)

"""Cross-entropy of a softmax (Bridle 1990, NIPS 2, pp. 211 to 217).

Label smoothing is that of Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, arXiv:1512.00567,
section 7. Left out: class weights; targets that are distributions; the fusion with the output head,
see linear_cross_entropy.py.
"""

import numpy as np

from minillm.ops._check import check_integers
from minillm.ops._op import op
from minillm.ops.log_softmax import log_softmax


@op
def cross_entropy(logits, *, targets, ignore_index=-100, label_smoothing=0.0):
    """Mean surprise at the targets, in nats, over the tokens that count; 0 where none does.

    Equation: loss = -mean_n sum_v q_nv * log softmax(logits_n)_v,
        with q_nv = (1 - s) * [v = target_n] + s / V for label smoothing s

    Parameters
    ----------
    logits : (..., V)
    targets : (...) integers in [0, V), or `ignore_index` for a token that does not count
    ignore_index : int
    label_smoothing : float in [0, 1], the share of the target that is spread over all V

    Returns
    -------
    loss : scalar

    Raises
    ------
    ValueError
        for targets of a wrong shape or dtype, or label smoothing outside [0, 1].
    """
    check_integers("targets", targets, logits.shape[:-1])
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
    log_probs, _ = log_softmax(logits)  # (..., V)
    counted = targets != ignore_index  # (...)
    known = np.where(counted, targets, 0)  # (...), with some id in range where none is needed
    nats = -np.take_along_axis(log_probs, known[..., None], -1)[..., 0]  # (...)
    if label_smoothing:
        nats = (1 - label_smoothing) * nats - label_smoothing * log_probs.mean(-1)
    count = np.maximum(counted.sum(), 1).astype(logits.dtype)  # scalar; never divide by zero
    loss = np.where(counted, nats, 0).sum() / count  # scalar
    return loss, (log_probs, counted, known, count, label_smoothing)


@cross_entropy.defbackward
def cross_entropy_backward(dloss, cache):
    log_probs, counted, known, count, label_smoothing = cache
    n_vocab = log_probs.shape[-1]
    # forward: loss = where(counted, nats, 0).sum() / count
    dnats = np.where(counted, dloss / count, 0)[..., None]  # (..., 1)
    # forward: nats = -sum_v q_v * log softmax(logits)_v, whose gradient is softmax(logits) - q
    probs = np.exp(log_probs)  # (..., V)
    onehot = np.arange(n_vocab, like=known) == known[..., None]  # (..., V)
    wanted = np.where(onehot, 1 - label_smoothing, 0) + label_smoothing / n_vocab  # (..., V)
    return dnats * (probs - wanted.astype(probs.dtype))

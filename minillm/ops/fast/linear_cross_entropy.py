"""linear_cross_entropy: the gradient of the logits is made where the logits stand.

One (N, V) array is written once, in pieces of rows that stay in the cache from the product of the
logits to their gradient, instead of one array each for logits, probabilities and gradient.
"""

import numpy as np

from minillm.ops._check import check_integers
from minillm.ops._op import check_shape, register
from minillm.ops.fast._pieces import pieces
from minillm.ops.fast._safe import is_safe
from minillm.ops.fast.linear import sum_rows


def linear_cross_entropy(x, weight, bias=None, *, targets, ignore_index=-100, label_smoothing=0.0):
    check_arguments(x, weight, bias, targets, label_smoothing)
    vocabulary, width = weight.shape
    rows, targets = x.reshape(-1, width), targets.reshape(-1)  # (N, C), (N,)
    counted = targets != ignore_index
    known = np.where(counted, targets, 0)
    share = 1 / max(1, int(np.count_nonzero(counted)))
    logits = np.matmul(rows, weight.T)  # (N, V), turned into their gradient in place
    ones = np.ones((vocabulary, 1), x.dtype)
    loss = 0.0
    for piece in pieces(len(rows), vocabulary):
        z, keep = logits[piece], counted[piece, None]
        index = np.arange(len(z)), known[piece]
        if bias is not None:
            z += bias
        at_target = z[index][:, None]
        mean = z.mean(-1, keepdims=True) if label_smoothing else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            np.exp(z, out=z)
            total = z @ ones  # (piece, 1)
        if not is_safe(total):
            np.matmul(rows[piece], weight.T, out=z)
            if bias is not None:
                z += bias
            peak = z.max(-1, keepdims=True)
            z -= peak
            at_target, mean = at_target - peak, mean - peak
            np.exp(z, out=z)
            total = z @ ones
        nats = np.log(total) - (1 - label_smoothing) * at_target - label_smoothing * mean
        loss += float(nats[keep].sum(dtype=np.float64))
        # d loss / d logits = share * (softmax - (1 - smoothing) * onehot - smoothing / V)
        z *= np.where(keep, share / total, 0).astype(x.dtype)
        kept = np.where(keep, share, 0).astype(x.dtype)
        z[index] -= (1 - label_smoothing) * kept[:, 0]
        if label_smoothing:
            z -= label_smoothing / vocabulary * kept
    return x.dtype.type(loss * share), (logits, rows, weight, bias is not None, x.shape)


def check_arguments(x, weight, bias, targets, label_smoothing):
    check_shape("weight", weight, (None, *x.shape[-1:]))
    check_integers("targets", targets, x.shape[:-1])
    if bias is not None:
        check_shape("bias", bias, weight.shape[:1])
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")


def linear_cross_entropy_backward(dloss, cache):
    dlogits, rows, weight, has_bias, shape = cache
    # forward: logits = x @ weight.T + bias; dlogits holds the gradient of the loss itself
    dx = np.matmul(dlogits, weight).reshape(shape)
    dweight = np.matmul(dlogits.T, rows)  # (V, C)
    dbias = sum_rows(dlogits) if has_bias else None
    for gradient in (dx, dweight, dbias):
        if gradient is not None and dloss != 1:
            gradient *= dloss
    return dx, dweight, dbias


register("linear_cross_entropy", "fast", linear_cross_entropy, linear_cross_entropy_backward)

"""linear_cross_entropy: the gradient of the logits is made where the logits stand.

One (N, V) array is written once, in pieces of rows that stay in the cache from the product of the
logits to their gradient, instead of one array each for logits, probabilities and gradient.
"""

import numpy as np

from minillm.ops._op import check_shape, register
from minillm.ops.fast._pieces import pieces
from minillm.ops.fast.linear import sum_rows


def linear_cross_entropy(
    x, weight, bias=None, *, targets, ignore_index=-100, label_smoothing=0.0
):
    vocabulary, width = weight.shape
    check_shape("x", x, (*targets.shape, width))
    if bias is not None:
        check_shape("bias", bias, (vocabulary,))
    rows, targets = x.reshape(-1, width), np.asarray(targets).reshape(-1)  # (N, C), (N,)
    counts = targets != ignore_index
    share = 1 / max(1, np.count_nonzero(counts))
    logits = np.matmul(rows, weight.T)  # (N, V), turned into their gradient in place
    loss = 0.0
    for piece in pieces(len(rows), vocabulary):
        z, keep = logits[piece], counts[piece]
        index = np.arange(len(z)), np.where(keep, targets[piece], 0)
        if bias is not None:
            z += bias
        z -= z.max(-1, keepdims=True)
        at_target = z[index]
        mean = z.mean(-1) if label_smoothing else 0.0
        np.exp(z, out=z)
        total = z.sum(-1)  # (piece,)
        nats = np.log(total) - (1 - label_smoothing) * at_target - label_smoothing * mean
        loss += float(nats[keep].sum(dtype=np.float64))
        # d loss / d logits = share * (softmax - (1 - smoothing) * onehot - smoothing / V)
        z *= np.where(keep, share / total, 0).astype(z.dtype)[:, None]
        z[index] -= np.where(keep, share * (1 - label_smoothing), 0).astype(z.dtype)
        if label_smoothing:
            z -= np.where(keep, share * label_smoothing / vocabulary, 0).astype(z.dtype)[:, None]
    return x.dtype.type(loss * share), (logits, rows, weight, bias is not None, x.shape)


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

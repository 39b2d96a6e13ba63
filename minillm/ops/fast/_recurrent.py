"""What the fast recurrent layers share: time comes first, so that each step's rows lie together."""

import numpy as np

from minillm.ops.dropout import dropout as dropout_op


def time_major(x):
    """(B, T, C) to (T, B, C), or back, as one block of memory."""
    return np.ascontiguousarray(x.transpose(1, 0, 2))


def dropped(x, p, rng):
    """Dropout on (T, B, C), drawn for (B, T, C), as the reference draws it."""
    if rng is None or p == 0:
        return x, None
    y, cache = dropout_op(x.transpose(1, 0, 2), p=p, rng=rng)
    return time_major(y), cache


def dropped_backward(dy, cache):
    if cache is None:
        return dy
    return time_major(dropout_op.backward(dy.transpose(1, 0, 2), cache))


def rows(x):
    """(T, B, C) as (T * B, C), for one product over all steps."""
    return x.reshape(-1, x.shape[-1])


def all_but_last(start, h):
    """What each step reads of the step before: (T, B, K) from the start (B, K) and all h (T, B, K)."""
    return np.concatenate([start[None], h[:-1]])


def weight_gradients(x, h_before, da, db=None):
    """The parameters' gradients, each by one product over all T * B rows.

    Forward: a = x @ weight_x + bias, b = h @ weight_h (+ bias_h); without `db`, da is both.
    """
    ones = np.ones(da.shape[0] * da.shape[1], da.dtype)
    grads = {
        "weight_x": rows(x).T @ rows(da),
        "weight_h": rows(h_before).T @ rows(da if db is None else db),
        "bias": ones @ rows(da),
    }
    return grads if db is None else grads | {"bias_h": ones @ rows(db)}

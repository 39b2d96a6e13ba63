"""What the fast recurrent layers share: the walk through the layers, and products over all steps.

Inside, time comes first, so that each step's rows lie together. A state is a tuple here: (h,), or
(h, c) in an LSTM.
"""

import numpy as np

from minillm.ops.dropout import dropout as dropout_op


def forward_layers(one_layer, x, starts, params, dropout, rng):
    """Run `one_layer(x, *start, weights) -> (y, end, saved)` layer by layer, on (T, B, C).

    Returns y (B, T, K), the end states, each (L, B, K), and what `backward_layers` needs.
    """
    y, ends, caches = _time_major(x), tuple(np.empty_like(s) for s in starts), []
    for layer, weights in enumerate(params):
        mask = None
        if layer > 0 and rng is not None and dropout > 0:
            # drawn for (B, T, C), as in the reference: the same generator gives the same mask
            y, mask = dropout_op(_time_major(y), p=dropout, rng=rng)
            y = _time_major(y)
        read, start = y, [s[layer] for s in starts]
        y, end, saved = one_layer(read, *start, weights)
        for whole, part in zip(ends, end, strict=True):
            whole[layer] = part
        caches.append((mask, read, *start, y, *saved))
    return _time_major(y), ends, (caches, params)


def backward_layers(one_layer, dy, dends, cache):
    """Run `one_layer(dy, *dend, saved, weights) -> (dx, dstart, dweights)` in reverse.

    Returns dx (B, T, C), the start states' gradients, each (L, B, K), and the list of dweights.
    """
    caches, params = cache
    dy, dstarts, dparams = _time_major(dy), tuple(np.empty_like(d) for d in dends), []
    for layer in reversed(range(len(params))):
        mask, *saved = caches[layer]
        dend = [d[layer] for d in dends]
        dy, dstart, dweights = one_layer(dy, *dend, saved, params[layer])
        for whole, part in zip(dstarts, dstart, strict=True):
            whole[layer] = part
        if mask is not None:
            dy = _time_major(dropout_op.backward(_time_major(dy), mask))
        dparams.insert(0, dweights)
    return _time_major(dy), dstarts, dparams


def _time_major(x):
    """(B, T, C) to (T, B, C), or back; always a copy, so that nobody else's array is kept."""
    return x.transpose(1, 0, 2).copy()


def project(x, weight):
    """x (T, B, C) @ weight (C, N) in one product over all T * B rows."""
    return (_rows(x) @ weight).reshape(*x.shape[:2], -1)


def weight_gradients(x, h_start, hs, da, db=None):
    """The parameters' gradients, each by one product over all T * B rows.

    Forward: a = x @ weight_x + bias, b = h @ weight_h (+ bias_h); without `db`, da is both.
    """
    db, two_biases = (da, False) if db is None else (db, True)
    h_before = np.concatenate([h_start[None], hs[:-1]])  # (T, B, K): what each step read
    ones = np.ones(da.shape[0] * da.shape[1], da.dtype)
    grads = {
        "weight_x": _rows(x).T @ _rows(da),
        "weight_h": _rows(h_before).T @ _rows(db),
        "bias": ones @ _rows(da),
    }
    return grads | {"bias_h": ones @ _rows(db)} if two_biases else grads


def _rows(x):
    return x.reshape(-1, x.shape[-1])

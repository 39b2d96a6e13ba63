"""rnn: one product projects the inputs of all steps, and one makes each weight's gradient."""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import check_layers, given, start
from minillm.ops.fast._recurrent import (
    backward_layers,
    forward_layers,
    project,
    weight_gradients,
)


def rnn(x, state, params, *, dropout=0.0, rng=None):
    h_start = start(state, check_layers(x, params, gates=1), x)  # (L, B, K)
    y, (end,), cache = forward_layers(_layer, x, (h_start,), params, dropout, rng)
    return (y, end), (cache, y.shape, end.copy(), state is not None)


def _layer(x, h, weights):
    weight_h, bias = np.ascontiguousarray(weights["weight_h"]), weights["bias"]
    hs = project(x, weights["weight_x"])  # (T, B, K)
    product = np.empty_like(hs[0])  # (B, K)
    for t in range(len(hs)):
        np.matmul(h, weight_h, out=product)
        product += bias
        h = hs[t]
        h += product
        np.tanh(h, out=h)
    return hs, (h,), ()


def rnn_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given("dy", dout[0], end, shape), given("dstate", dout[1], end)
    dx, (dstart,), dparams = backward_layers(_layer_backward, dy, (dend,), cache)
    return dx, dstart if state_given else None, dparams


def _layer_backward(dy, dh_last, saved, weights):
    x, h_start, hs = saved
    weight_h_t = np.ascontiguousarray(weights["weight_h"].T)  # (K, K), once for all steps
    da, dh = np.empty_like(hs), dh_last.copy()  # (T, B, K), (B, K)
    for t in reversed(range(len(hs))):
        h, d = hs[t], da[t]
        dh += dy[t]
        # forward: h = tanh(a), and tanh' = 1 - tanh**2
        np.multiply(h, h, out=d)
        np.subtract(1, d, out=d)
        d *= dh
        # forward: a = x @ weight_x + h_before @ weight_h + bias
        np.matmul(d, weight_h_t, out=dh)
    return project(da, weights["weight_x"].T), (dh,), weight_gradients(x, h_start, hs, da)


register("rnn", "fast", rnn, rnn_backward)

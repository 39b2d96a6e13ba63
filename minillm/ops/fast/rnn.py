"""rnn: one product projects the inputs of all steps, and one makes each weight's gradient."""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import given, start
from minillm.ops.fast._recurrent import (
    aligned,
    backward_layers,
    bias_gradient,
    by_gate,
    check_inputs,
    forward_layers,
    project,
    project_backward,
    step_product,
    weight_h_gradient,
)


def rnn(x, state, params, *, dropout=0.0, rng=None):
    shape, like = check_inputs(x, params, gates=1)
    h_start = start(state, shape, like)  # (L, B, K)
    y, (end,), cache = forward_layers(_layer, x, (h_start,), params, dropout, rng)
    return (y, end), (cache, y.shape, end.copy(), state is not None)


def _layer(x, h, weights):
    hs = project(x, weights["weight_x"], 1)[0]  # (T, B, K)
    multiply = step_product(by_gate(weights["weight_h"], 1), len(h), len(hs))
    for now in hs:
        now += multiply(h)[0]
        now += weights["bias"]
        h = np.tanh(now, out=now)
    return hs, (h,), ()


def rnn_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given(dout[0], end, shape), given(dout[1], end)
    dx, (dstart,), dparams = backward_layers(_layer_backward, dy, (dend,), cache)
    return dx, dstart if state_given else None, dparams


def _layer_backward(dy, dh, saved, weights):
    x, h_start, hs = saved
    multiply = step_product(by_gate(weights["weight_h"], 1).swapaxes(1, 2), len(dh), len(hs))
    da, dh = aligned(hs.shape, hs.dtype), dh.copy()  # (T, B, K), (B, K)
    for t in reversed(range(len(hs))):
        h, d = hs[t], da[t]
        dh += dy[t]
        # forward: h = tanh(a), and tanh' = 1 - tanh**2
        np.multiply(h, h, out=d)
        np.subtract(1, d, out=d)
        d *= dh
        # forward: a = x @ weight_x + h_before @ weight_h + bias
        dh = multiply(d)[0]
    dx, dweight_x = project_backward(x, da, weights["weight_x"])
    dweights = {"weight_x": dweight_x, "weight_h": weight_h_gradient(h_start, hs, da)}
    return dx, (dh,), dweights | {"bias": bias_gradient(da)}


register("rnn", "fast", rnn, rnn_backward)

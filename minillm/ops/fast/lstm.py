"""lstm: one product projects the inputs of all steps, one tanh serves all four gates.

sigmoid(a) = (1 + tanh(a / 2)) / 2, so that the gates i, f, g, o are scale * tanh(scale * a) + shift
with scale 1/2, 1/2, 1, 1/2.
"""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import check_state, given, start
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


def lstm(x, state, params, *, dropout=0.0, rng=None):
    (shape, like), state_given = check_inputs(x, params, gates=4), state is not None
    state = check_state(state)  # (L, B, K) each
    starts = tuple(start(state[key], shape, like, f"state[{key!r}]") for key in ("h", "c"))
    y, (h, c), cache = forward_layers(_layer, x, starts, params, dropout, rng)
    return (y, {"h": h, "c": c}), (cache, y.shape, h.copy(), state_given)


def _layer(x, h, c, weights):
    gates = project(x, weights["weight_x"], 4)  # (4, T, B, K)
    _, steps, batch, hidden = gates.shape
    multiply = step_product(by_gate(weights["weight_h"], 4), batch, steps)
    bias = by_gate(weights["bias"], 4)  # (4, 1, K)
    scale = np.array([0.5, 0.5, 1, 0.5], h.dtype).reshape(4, 1, 1)
    shift = np.array([0.5, 0.5, 0, 0.5], h.dtype).reshape(4, 1, 1)
    hs, cs = (aligned((steps, batch, hidden), h.dtype) for _ in range(2))
    work = aligned((batch, hidden), h.dtype)
    for t in range(steps):
        a, c_before = gates[:, t], c
        a += multiply(h)
        a += bias
        a *= scale
        np.tanh(a, out=a)
        a *= scale
        a += shift
        (i, f, g, o), h, c = a, hs[t], cs[t]
        np.multiply(f, c_before, out=c)
        c += np.multiply(i, g, out=work)
        np.multiply(o, np.tanh(c, out=work), out=h)
    return hs, (h, c), (gates, cs)


def lstm_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given(dout[0], end, shape), check_state(dout[1], "dstate")
    dends = tuple(given(dend[key], end) for key in ("h", "c"))
    dx, (dh, dc), dparams = backward_layers(_layer_backward, dy, dends, cache)
    return dx, {"h": dh, "c": dc} if state_given else None, dparams


def _layer_backward(dy, dh_last, dc_last, saved, weights):
    x, h_start, c_start, hs, gates, cs = saved
    steps, batch, hidden = hs.shape
    multiply = step_product(by_gate(weights["weight_h"], 4).swapaxes(1, 2), batch, steps)
    da = aligned((steps, batch, 4, hidden), hs.dtype)
    d, slope = (aligned((4, batch, hidden), hs.dtype) for _ in range(2))
    dh, dc, tanh_c, work = (aligned((batch, hidden), hs.dtype) for _ in range(4))
    dh[...], dc[...] = dh_last, dc_last
    for t in reversed(range(steps)):
        a = gates[:, t]  # (4, B, K)
        (i, f, g, o), (di, df, dg, do) = a, d
        dh += dy[t]
        # forward: h = o * tanh(c)
        np.tanh(cs[t], out=tanh_c)
        np.multiply(dh, tanh_c, out=do)
        np.multiply(tanh_c, tanh_c, out=work)
        np.subtract(1, work, out=work)
        work *= o
        work *= dh
        dc += work
        # forward: c = f * c_before + i * g
        np.multiply(dc, g, out=di)
        np.multiply(dc, c_start if t == 0 else cs[t - 1], out=df)
        np.multiply(dc, i, out=dg)
        dc *= f
        # forward: i, f, o = sigmoid and g = tanh: slopes s - s**2 and 1 - g**2
        np.multiply(a, a, out=slope)
        np.subtract(1, slope[2], out=slope[2])
        np.subtract(a[:2], slope[:2], out=slope[:2])
        np.subtract(o, slope[3], out=slope[3])
        d *= slope
        da[t] = d.swapaxes(0, 1)
        # forward: a = x @ weight_x + h_before @ weight_h + bias
        np.add.reduce(multiply(d), axis=0, out=dh)
    da = da.reshape(steps, batch, 4 * hidden)
    dx, dweight_x = project_backward(x, da, weights["weight_x"])
    dweights = {"weight_x": dweight_x, "weight_h": weight_h_gradient(h_start, hs, da)}
    return dx, (dh, dc), dweights | {"bias": bias_gradient(da)}


register("lstm", "fast", lstm, lstm_backward)

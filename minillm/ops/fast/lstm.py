"""lstm: one product projects the inputs of all steps, one tanh serves all four gates.

sigmoid(a) = (1 + tanh(a / 2)) / 2, so that the gates i, f, g, o, side by side, are
scale * tanh(scale * a) + shift with scale 1/2, 1/2, 1, 1/2.
"""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import check_layers, check_state, given, start
from minillm.ops.fast._recurrent import (
    backward_layers,
    forward_layers,
    project,
    weight_gradients,
)


def lstm(x, state, params, *, dropout=0.0, rng=None):
    shape, state_given = check_layers(x, params, gates=4), state is not None
    state = check_state(state)  # (L, B, K) each
    starts = tuple(start(state[key], shape, x, f"state[{key!r}]") for key in ("h", "c"))
    y, (h, c), cache = forward_layers(_layer, x, starts, params, dropout, rng)
    return (y, {"h": h, "c": c}), (cache, y.shape, h.copy(), state_given)


def _layer(x, h, c, weights):
    (time, batch, _), hidden = x.shape, h.shape[-1]
    weight_h, bias = np.ascontiguousarray(weights["weight_h"]), weights["bias"]
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), hidden)  # (4K,)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], x.dtype), hidden)  # (4K,)
    gates = project(x, weights["weight_x"])
    hs, cs, tanh_cs = (np.empty((time, batch, hidden), x.dtype) for _ in range(3))
    product, write = np.empty_like(gates[0]), np.empty_like(hs[0])
    for t in range(time):
        a, h_before, c_before, h, c, tanh_c = gates[t], h, c, hs[t], cs[t], tanh_cs[t]
        a += np.matmul(h_before, weight_h, out=product)
        a += bias
        a *= scale
        np.tanh(a, out=a)
        a *= scale
        a += shift
        i, f, g, o = (a[:, n * hidden : (n + 1) * hidden] for n in range(4))
        np.multiply(f, c_before, out=c)
        c += np.multiply(i, g, out=write)
        np.multiply(o, np.tanh(c, out=tanh_c), out=h)
    return hs, (h, c), (gates, cs, tanh_cs)


def lstm_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given("dy", dout[0], end, shape), check_state(dout[1], "dstate")
    dends = tuple(given(f"d{key}", dend[key], end) for key in ("h", "c"))
    dx, (dh, dc), dparams = backward_layers(_layer_backward, dy, dends, cache)
    return dx, {"h": dh, "c": dc} if state_given else None, dparams


def _layer_backward(dy, dh_last, dc_last, saved, weights):
    x, h_start, c_start, hs, gates, cs, tanh_cs = saved
    time, _, hidden = hs.shape
    weight_h_t = np.ascontiguousarray(weights["weight_h"].T)  # (4K, K), once for all steps
    da = np.empty_like(gates)  # (T, B, 4K)
    slope = np.empty_like(gates[0])  # (B, 4K)
    dh, dc, work = dh_last.copy(), dc_last.copy(), np.empty_like(dh_last)  # (B, K) each
    for t in reversed(range(time)):
        a, tanh_c, d = gates[t], tanh_cs[t], da[t]
        i, f, g, o = (a[:, n * hidden : (n + 1) * hidden] for n in range(4))
        di, df, dg, do = (d[:, n * hidden : (n + 1) * hidden] for n in range(4))
        dh += dy[t]
        # forward: h = o * tanh(c)
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
        # forward: i, f, o = sigmoid and g = tanh: slopes s * (1 - s) and 1 - g**2
        np.multiply(a, a, out=slope)
        np.subtract(a, slope, out=slope)
        np.multiply(g, g, out=work)
        np.subtract(1, work, out=slope[:, 2 * hidden : 3 * hidden])
        d *= slope
        # forward: a = x @ weight_x + h_before @ weight_h + bias
        np.matmul(d, weight_h_t, out=dh)
    dx = project(da, weights["weight_x"].T)  # (T, B, C)
    return dx, (dh, dc), weight_gradients(x, h_start, hs, da)


register("lstm", "fast", lstm, lstm_backward)

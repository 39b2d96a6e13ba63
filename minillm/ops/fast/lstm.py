"""lstm: one product projects the inputs of all steps, one tanh serves all four gates.

sigmoid(a) = (1 + tanh(a / 2)) / 2, so that the gates i, f, g, o, side by side, are
scale * tanh(scale * a) + shift with scale 1/2, 1/2, 1, 1/2.
"""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import check_layers, check_state, given, start
from minillm.ops.fast._recurrent import (
    all_but_last,
    dropped,
    dropped_backward,
    rows,
    time_major,
    weight_gradients,
)


def lstm(x, state, params, *, dropout=0.0, rng=None):
    shape = check_layers(x, params, gates=4)
    h_start, c_start = (
        start(s, shape, x, f"state[{name!r}]") for name, s in check_state(state).items()
    )
    end = {"h": np.empty_like(x, shape=shape), "c": np.empty_like(x, shape=shape)}
    y, caches = time_major(x), []  # (T, B, C)
    for layer, weights in enumerate(params):
        mask = None
        if layer > 0:
            y, mask = dropped(y, dropout, rng)
        read = y
        y, *saved = _layer(read, h_start[layer], c_start[layer], weights)
        end["h"][layer], end["c"][layer] = y[-1], saved[1][-1]
        caches.append((mask, read, h_start[layer], c_start[layer], y, *saved))
    return (time_major(y), end), (caches, params, end, state is not None)


def _layer(x, h, c, weights):
    (time, batch, _), hidden = x.shape, h.shape[-1]
    weight_h, bias = np.ascontiguousarray(weights["weight_h"]), weights["bias"]
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), hidden)  # (4K,)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], x.dtype), hidden)  # (4K,)
    gates = (rows(x) @ weights["weight_x"]).reshape(time, batch, 4 * hidden)
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
    return hs, gates, cs, tanh_cs


def lstm_backward(dout, cache):
    caches, params, end, state_given = cache
    time, batch, hidden = caches[-1][4].shape
    dy, dend = dout[0], check_state(dout[1], "dstate")
    dy = given("dy", dy, np.empty_like(end["h"], shape=(batch, time, hidden)))
    dend = {key: given(f"d{key}", dend[key], end[key]) for key in end}
    dy = time_major(dy)
    dstate, dparams = {key: np.empty_like(array) for key, array in end.items()}, []
    for layer in reversed(range(len(params))):
        mask, *saved = caches[layer]
        last = dend["h"][layer], dend["c"][layer]
        dy, dh, dc, dweights = _layer_backward(dy, *last, saved, params[layer])
        dstate["h"][layer], dstate["c"][layer] = dh, dc
        dparams.insert(0, dweights)
        dy = dropped_backward(dy, mask)
    return time_major(dy), dstate if state_given else None, dparams


def _layer_backward(dy, dh_last, dc_last, saved, weights):
    x, h_start, c_start, hs, gates, cs, tanh_cs = saved
    time, batch, hidden = hs.shape
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
    dx = (rows(da) @ weights["weight_x"].T).reshape(x.shape)
    return dx, dh, dc, weight_gradients(x, all_but_last(h_start, hs), da)


register("lstm", "fast", lstm, lstm_backward)

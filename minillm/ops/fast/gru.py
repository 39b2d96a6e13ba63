"""gru: one product projects the inputs of all steps, and one makes each weight's gradient.

sigmoid(a) = (1 + tanh(a / 2)) / 2 serves the gates r and z.
"""

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
from minillm.ops.gru_cell import GRU_KEYS


def gru(x, state, params, *, dropout=0.0, rng=None):
    shape, like = check_inputs(x, params, gates=3, keys=GRU_KEYS)
    h_start = start(state, shape, like)  # (L, B, K)
    y, (end,), cache = forward_layers(_layer, x, (h_start,), params, dropout, rng)
    return (y, end), (cache, y.shape, end.copy(), state is not None)


def _layer(x, h, weights):
    gates = project(x, weights["weight_x"], 3)  # (3, T, B, K), becomes r, z, n
    _, steps, batch, hidden = gates.shape
    multiply = step_product(by_gate(weights["weight_h"], 3), batch, steps)
    bias, bias_h = by_gate(weights["bias"], 3), by_gate(weights["bias_h"], 3)  # (3, 1, K) each
    b_ns, hs = (aligned((steps, batch, hidden), h.dtype) for _ in range(2))
    for t in range(steps):
        a, b, b_n = gates[:, t], multiply(h), b_ns[t]
        a += bias
        b += bias_h
        rz, n = a[:2], a[2]
        # forward: r, z = sigmoid(a + b)
        rz += b[:2]
        rz *= 0.5
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        # forward: n = tanh(a_n + r * b_n)
        b_n[...] = b[2]
        n += np.multiply(rz[0], b_n, out=b[2])
        np.tanh(n, out=n)
        # forward: h = (1 - z) * n + z * h_before = n + z * (h_before - n)
        h = np.subtract(h, n, out=hs[t])
        h *= rz[1]
        h += n
    return hs, (h,), (gates, b_ns)


def gru_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given(dout[0], end, shape), given(dout[1], end)
    dx, (dstart,), dparams = backward_layers(_layer_backward, dy, (dend,), cache)
    return dx, dstart if state_given else None, dparams


def _layer_backward(dy, dh_last, saved, weights):
    x, h_start, hs, gates, b_ns = saved
    steps, batch, hidden = hs.shape
    multiply = step_product(by_gate(weights["weight_h"], 3).swapaxes(1, 2), batch, steps)
    da, db = (aligned((steps, batch, 3, hidden), hs.dtype) for _ in range(2))
    d, slope = (aligned((3, batch, hidden), hs.dtype) for _ in range(2))
    dh, work = (aligned((batch, hidden), hs.dtype) for _ in range(2))
    dh[...] = dh_last
    for t in reversed(range(steps)):
        (r, z, n), (dr, dz, dn) = gates[:, t], d
        dh += dy[t]
        # slopes: s - s**2 of a sigmoid, 1 - n**2 of tanh
        np.multiply(gates[:, t], gates[:, t], out=slope)
        np.subtract(gates[:2, t], slope[:2], out=slope[:2])
        np.subtract(1, slope[2], out=slope[2])
        # forward: h = (1 - z) * n + z * h_before
        np.subtract(h_start if t == 0 else hs[t - 1], n, out=dz)
        np.subtract(1, z, out=dn)
        d[1:] *= dh
        d[1:] *= slope[1:]
        # forward: n = tanh(a_n + r * b_n)
        np.multiply(dn, b_ns[t], out=dr)
        dr *= slope[0]
        # forward: a and b share their gradient, but for the candidate's, where r stands between
        da[t] = d.swapaxes(0, 1)
        dn *= r
        db[t] = d.swapaxes(0, 1)
        # forward: b = h_before @ weight_h + bias_h
        dh *= z
        dh += np.add.reduce(multiply(d), axis=0, out=work)
    da, db = (part.reshape(steps, batch, 3 * hidden) for part in (da, db))
    dx, dweight_x = project_backward(x, da, weights["weight_x"])
    dweights = {"weight_x": dweight_x, "weight_h": weight_h_gradient(h_start, hs, db)}
    dweights |= {"bias": bias_gradient(da), "bias_h": bias_gradient(db)}
    return dx, (dh,), dweights


register("gru", "fast", gru, gru_backward)

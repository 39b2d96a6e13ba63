"""gru: one product projects the inputs of all steps, and one makes each weight's gradient."""

import numpy as np

from minillm.ops._op import register
from minillm.ops._recurrent import check_layers, given, start
from minillm.ops.fast._recurrent import (
    backward_layers,
    forward_layers,
    project,
    weight_gradients,
)
from minillm.ops.gru_cell import GRU_KEYS


def gru(x, state, params, *, dropout=0.0, rng=None):
    h_start = start(state, check_layers(x, params, gates=3, keys=GRU_KEYS), x)  # (L, B, K)
    y, (end,), cache = forward_layers(_layer, x, (h_start,), params, dropout, rng)
    return (y, end), (cache, y.shape, end.copy(), state is not None)


def _layer(x, h, weights):
    (time, batch, _), hidden = x.shape, h.shape[-1]
    weight_h = np.ascontiguousarray(weights["weight_h"])
    gates = project(x, weights["weight_x"])  # becomes r, z, n
    b_ns, hs = (np.empty((time, batch, hidden), x.dtype) for _ in range(2))
    b, work = np.empty_like(gates[0]), np.empty_like(hs[0])  # (B, 3K), (B, K)
    for t in range(time):
        a, h_before, h = gates[t], h, hs[t]
        np.matmul(h_before, weight_h, out=b)
        b += weights["bias_h"]
        b_n, b_rz = b[:, 2 * hidden :], b[:, : 2 * hidden]
        b_ns[t] = b_n
        a += weights["bias"]
        # sigmoid(a) = (1 + tanh(a / 2)) / 2
        rz, n = a[:, : 2 * hidden], a[:, 2 * hidden :]
        rz += b_rz
        rz *= 0.5
        np.tanh(rz, out=rz)
        rz *= 0.5
        rz += 0.5
        r, z = rz[:, :hidden], rz[:, hidden:]
        n += np.multiply(r, b_n, out=work)
        np.tanh(n, out=n)
        # h = (1 - z) * n + z * h_before = n + z * (h_before - n)
        np.subtract(h_before, n, out=h)
        h *= z
        h += n
    return hs, (h,), (gates, b_ns)


def gru_backward(dout, cache):
    cache, shape, end, state_given = cache
    dy, dend = given("dy", dout[0], end, shape), given("dstate", dout[1], end)
    dx, (dstart,), dparams = backward_layers(_layer_backward, dy, (dend,), cache)
    return dx, dstart if state_given else None, dparams


def _layer_backward(dy, dh_last, saved, weights):
    x, h_start, hs, gates, b_ns = saved
    hidden = hs.shape[-1]
    weight_h_t = np.ascontiguousarray(weights["weight_h"].T)  # (3K, K), once for all steps
    da, db = np.empty_like(gates), np.empty_like(gates)  # (T, B, 3K) each
    dh, work, product = dh_last.copy(), np.empty_like(dh_last), np.empty_like(dh_last)  # (B, K)
    for t in reversed(range(len(hs))):
        r, z, n = (gates[t][:, i * hidden : (i + 1) * hidden] for i in range(3))
        dr, dz, dn = (da[t][:, i * hidden : (i + 1) * hidden] for i in range(3))
        dh += dy[t]
        # forward: h = (1 - z) * n + z * h_before, z = sigmoid(...) with slope z * (1 - z)
        np.subtract(h_start if t == 0 else hs[t - 1], n, out=dz)
        dz *= dh
        np.subtract(1, z, out=work)
        np.multiply(dh, work, out=dn)
        work *= z
        dz *= work
        # forward: n = tanh(a_n + r * b_n), r = sigmoid(...)
        np.multiply(n, n, out=work)
        np.subtract(1, work, out=work)
        dn *= work
        np.subtract(1, r, out=work)
        work *= r
        np.multiply(dn, b_ns[t], out=dr)
        dr *= work
        # forward: a and b share their gradient, but for the candidate's, where r stands between
        db[t] = da[t]
        db[t][:, 2 * hidden :] *= r
        # forward: b = h_before @ weight_h + bias_h
        dh *= z
        dh += np.matmul(db[t], weight_h_t, out=product)
    return project(da, weights["weight_x"].T), (dh,), weight_gradients(x, h_start, hs, da, db)


register("gru", "fast", gru, gru_backward)

"""Gated recurrent cells, and the LSTM over time."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, sigmoid


def lstm_cell(x, h, c, params):
    """Gates in the order input, forget, output, candidate."""
    a = x @ params["wx"] + h @ params["wh"] + params["b"]
    i, f, o = (sigmoid(part) for part in np.split(a, 4, -1)[:3])
    g = np.tanh(np.split(a, 4, -1)[3])
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)
    return (o * tanh_c, c_next), (x, h, c, params, i, f, o, g, c_next, tanh_c)


def lstm_slopes(i, f, o, g):
    return [i * (1 - i), f * (1 - f), o * (1 - o), 1 - g**2]


def lstm_cell_backward(dout, cache, slopes=lstm_slopes, old=None, order=(0, 1, 2, 3)):
    dh_next, dc_next = dout
    x, h, c, params, i, f, o, g, _, tanh_c = cache
    dc = dc_next + dh_next * o * (1 - tanh_c**2)
    parts = [dc * g, dc * (c if old is None else old), dh_next * tanh_c, dc * i]
    das = [d * slope for d, slope in zip(parts, slopes(i, f, o, g), strict=True)]
    da = np.concatenate([das[place] for place in order], -1)
    grads = {"wx": x.T @ da, "wh": h.T @ da, "b": da.sum(0)}
    return da @ params["wx"].T, da @ params["wh"].T, dc * f, grads


def gated_params(rng, d, h, gates):
    shapes = {"wx": (d, gates * h), "wh": (h, gates * h), "b": (gates * h,)}
    return {name: 0.6 * rng.standard_normal(shape) for name, shape in shapes.items()}


def lstm_cell_case(rng):
    b, d, h = different(rng, 3, 2, 5)
    args = [rng.standard_normal(s) for s in [(b, d), (b, h), (b, h)]]
    return [*args, gated_params(rng, d, h, 4)], {}


LSTM_CELL = Subject(lstm_cell, lstm_cell_backward, lstm_cell_case)


@LSTM_CELL.wrong(
    ("part_wrong", "local_derivative"), "The sigmoid's slope for the candidate's tanh."
)
def candidate_as_a_sigmoid(dout, cache):
    def slopes(i, f, o, g):
        return [*lstm_slopes(i, f, o, g)[:3], g * (1 - g)]

    return lstm_cell_backward(dout, cache, slopes)


@LSTM_CELL.wrong(("wrong_step", "part_wrong"), "The forget gate meets the new cell, not the old.")
def forget_gate_with_the_new_cell(dout, cache):
    return lstm_cell_backward(dout, cache, old=cache[8])


@LSTM_CELL.wrong("upstream_ignored", "What comes in through the cell is not asked for.")
def cells_upstream_ignored(dout, cache):
    return lstm_cell_backward((dout[0], np.zeros_like(dout[1])), cache)


@LSTM_CELL.wrong(("other_parameter", "part_wrong"), "Forget and output gate in torch's order.")
def gates_in_another_order(dout, cache):
    return lstm_cell_backward(dout, cache, order=(0, 2, 1, 3))


def lstm(x, h0, c0, params):
    h, c, outs, caches = h0, c0, [], []
    for t in range(x.shape[1]):
        (h, c), cache = lstm_cell(x[:, t], h, c, params)
        outs.append(h)
        caches.append(cache)
    return np.stack(outs, 1), caches


def lstm_backward(dout, caches, keep_h=1, keep_c=1):
    dh = dc = np.zeros_like(dout[:, 0])
    dxs, total = [], {}
    for t in reversed(range(dout.shape[1])):
        dx, dh, dc, grads = lstm_cell_backward((dout[:, t] + keep_h * dh, keep_c * dc), caches[t])
        dxs.append(dx)
        total = {name: total.get(name, 0) + grads[name] for name in grads}
    return np.stack(dxs[::-1], 1), dh, dc, total


def lstm_case(rng):
    b, t, d, h = different(rng, 4, 2, 5)
    args = [rng.standard_normal(s) for s in [(b, t + 1, d), (b, h), (b, h)]]
    return [*args, gated_params(rng, d, h, 4)], {}


LSTM = Subject(lstm, lstm_backward, lstm_case)


@LSTM.wrong("overwritten", "The cell's gradient isn't carried back through time.")
def cell_not_carried(dout, caches):
    return lstm_backward(dout, caches, keep_c=0)


@LSTM.wrong("wrong_step", "The steps' dx are stacked in the order in which they came.")
def inputs_last_first(dout, caches):
    dx, *others = lstm_backward(dout, caches)
    return dx[:, ::-1].copy(), *others


@LSTM.wrong("cache_spent", "The steps' caches are popped off.")
def caches_popped(dout, caches):
    taken = [caches.pop() for _ in range(len(caches))]
    return lstm_backward(dout, taken[::-1])


@LSTM.wrong("missing", "The first states get None, as torch gives what wasn't asked for.")
def first_states_not_returned(dout, caches):
    dx, _, _, grads = lstm_backward(dout, caches)
    return dx, None, None, grads


def gru_cell(x, h, params):
    """Gates update and reset, then the candidate, from x and the reset state."""
    width = h.shape[1]
    xs, w = np.split(x @ params["wx"] + params["b"], 3, -1), params["wh"]
    z = sigmoid(xs[0] + h @ w[:, :width])
    r = sigmoid(xs[1] + h @ w[:, width : 2 * width])
    g = np.tanh(xs[2] + (r * h) @ w[:, 2 * width :])
    return z * h + (1 - z) * g, (x, h, params, z, r, g)


def gru_cell_backward(dout, cache, turn=1, direct=1, through_reset=1):
    x, h, params, z, r, g = cache
    wz, wr, wg = np.split(params["wh"], 3, 1)
    dg = dout * (1 - z) * (1 - g**2)
    drh = dg @ wg.T
    dz, dr = turn * dout * (h - g) * z * (1 - z), drh * h * r * (1 - r)
    dh = direct * dout * z + dz @ wz.T + dr @ wr.T + through_reset * drh * r
    da = np.concatenate([dz, dr, dg], -1)
    dwh = np.concatenate([h.T @ dz, h.T @ dr, (r * h).T @ dg], 1)
    return da @ params["wx"].T, dh, {"wx": x.T @ da, "wh": dwh, "b": da.sum(0)}


def gru_cell_case(rng):
    b, d, h = different(rng, 3, 2, 5)
    args = [rng.standard_normal((b, d)), rng.standard_normal((b, h))]
    return [*args, gated_params(rng, d, h, 3)], {}


GRU_CELL = Subject(gru_cell, gru_cell_backward, gru_cell_case)


@GRU_CELL.wrong(("sign", "part_wrong"), "The other paper's update gate: g - h.")
def update_gate_turned(dout, cache):
    return gru_cell_backward(dout, cache, turn=-1)


@GRU_CELL.wrong("overwritten", "The state's way through the reset product is left out.")
def way_through_the_reset(dout, cache):
    return gru_cell_backward(dout, cache, through_reset=0)


@GRU_CELL.wrong("overwritten", "The state's direct way, z h, is left out.")
def direct_way(dout, cache):
    return gru_cell_backward(dout, cache, direct=0)

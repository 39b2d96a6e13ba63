"""What the entries of the recurrent ops share: points to check at, and the loop over time."""

from typing import Any

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes
from minillm.tree import map_leaves

__all__ = ["cell_case", "layers_case", "state_gradient", "through_time"]

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def draw_weights(rng, kind, channels, hidden):
    """One layer's params, off their initial values and small enough not to saturate the gates."""
    columns = GATES[kind] * hidden
    weights = {
        "weight_x": rng.standard_normal((channels, columns)) / np.sqrt(channels),
        "weight_h": rng.standard_normal((hidden, columns)) / np.sqrt(hidden),
        "bias": 0.5 * rng.standard_normal(columns),
    }
    return weights | ({"bias_h": 0.5 * rng.standard_normal(columns)} if kind == "gru" else {})


def draw_state(rng, kind, *shape):
    if kind == "lstm":
        return {"h": rng.standard_normal(shape), "c": rng.standard_normal(shape)}
    return rng.standard_normal(shape)


def cell_case(rng, kind):
    """(x, state, params) of one step."""
    batch, channels, hidden = sizes(rng, 3, 2, 5, ones=0.1)
    x, state = rng.standard_normal((batch, channels)), draw_state(rng, kind, batch, hidden)
    return (x, state, draw_weights(rng, kind, channels, hidden)), {}


def layers_case(rng, kind):
    """(x, state, params) and dropout: mostly two layers and a state, always two steps or more."""
    batch, time, channels, hidden = sizes(rng, 4, 2, 5, ones=0.08)
    time, layers = max(time, 2), 1 if rng.random() < 0.1 else 2
    x = rng.standard_normal((batch, time, channels))
    state = draw_state(rng, kind, layers, batch, hidden) if rng.random() < 0.9 else None
    params = [draw_weights(rng, kind, hidden if i else channels, hidden) for i in range(layers)]
    kwargs = {}
    if rng.random() < 0.9:
        kwargs = {"dropout": 0.3, "rng": np.random.default_rng(rng.integers(2**32))}
    return (x, state, params), kwargs


def add_up(total, part):
    return {key: total[key] + part[key] for key in total}


def through_time(
    step,
    dout,
    saved,
    ops,
    *,
    reach=lambda dy, t: dy[:, t],
    hand_on=lambda dstate, t: dstate,
    collect=add_up,
    between=None,
):
    """Back-propagation through time and layers, with places to go wrong in.

    step(dstate, cache): the cell's backward. reach(dy, t): what step t gets from its output.
    hand_on(dstate, t): what step t gives to the step before it. collect(total, part): how a step's
    gradient of the weights joins the others'. between(dx, dropped): the way to the layer below.
    """
    caches, _, _, params, state_given = saved
    dx, dend = dout
    between = between or ops.dropout.backward
    dstates: list[Any] = []
    dparams: list[dict] = []
    for layer in reversed(range(len(params))):
        dropped, steps = caches[layer]
        dy = dx
        dxs: list[np.ndarray] = []
        dnow = map_leaves(lambda leaf, layer=layer: leaf[layer], dend)
        total = map_leaves(np.zeros_like, params[layer])
        for t in reversed(range(len(steps))):
            if isinstance(dnow, dict):
                dnow = dnow | {"h": dnow["h"] + reach(dy, t)}
            else:
                dnow = dnow + reach(dy, t)
            dx_t, dnow, part = step(dnow, steps[t])
            dnow = hand_on(dnow, t)
            dxs.insert(0, dx_t)
            total = collect(total, part)
        dx = np.stack(dxs, axis=1)
        if layer > 0:
            dx = between(dx, dropped)
        dstates.insert(0, dnow)
        dparams.insert(0, total)
    return dx, state_gradient(dstates) if state_given else None, dparams


def state_gradient(layers):
    """The layers' gradients of the state, as one array (or one of h and one of c)."""
    return map_leaves(lambda *parts: np.stack(parts), *layers)

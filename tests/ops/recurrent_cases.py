"""Arguments and torch oracles for the recurrent ops' tests, and back-propagation through time with
one chosen mistake."""

import numpy as np
import torch

from minillm.tree import map_leaves
from tests.ops.harness import randn

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def weights_of(rng, kind, channels, hidden):
    """One layer's params, off their initial values and small enough not to saturate every gate."""
    width = GATES[kind] * hidden
    params = {
        "weight_x": randn(rng, channels, width) / np.sqrt(channels),
        "weight_h": randn(rng, hidden, width) / np.sqrt(hidden),
        "bias": 0.5 * randn(rng, width),
    }
    if kind == "gru":
        params["bias_h"] = 0.5 * randn(rng, width)
    return params


def layers_case(rng, kind, shape, *, with_state=True):
    """(x, state, params) for shape = (B, T, C, K, L)."""
    batch, time, channels, hidden, layers = shape
    x = randn(rng, batch, time, channels)
    params = [weights_of(rng, kind, hidden if i else channels, hidden) for i in range(layers)]
    state = randn(rng, layers, batch, hidden)
    if kind == "lstm":
        state = {"h": state, "c": randn(rng, layers, batch, hidden)}
    return x, state if with_state else None, params


def torch_layers(kind, x, state, params):
    """torch.nn.RNN, LSTM or GRU of our arguments; its second bias is ours of the GRU, or zero."""
    hidden = params[0]["weight_h"].shape[0]
    names = {}
    for i, p in enumerate(params):
        names |= {f"weight_ih_l{i}": p["weight_x"].T, f"weight_hh_l{i}": p["weight_h"].T}
        names |= {f"bias_ih_l{i}": p["bias"], f"bias_hh_l{i}": p.get("bias_h", 0 * p["bias"])}
    module = getattr(torch.nn, kind.upper())(
        x.shape[-1], hidden, len(params), batch_first=True, dtype=x.dtype
    )
    if kind == "lstm" and state is not None:
        state = (state["h"], state["c"])
    y, end = torch.func.functional_call(module, names, (x, state))
    return y, ({"h": end[0], "c": end[1]} if kind == "lstm" else end)


def torch_cell(kind, x, state, params):
    """One step of one layer."""
    state = {k: v[None] for k, v in state.items()} if kind == "lstm" else state[None]
    _, end = torch_layers(kind, x[:, None], state, [params])
    return {k: v[0] for k, v in end.items()} if kind == "lstm" else end[0]


def masks(dropout_op, shape, count, p, seed):
    """What dropout multiplies by, between one layer and the next, for a generator of that seed."""
    rng = np.random.default_rng(seed)
    return [dropout_op(np.ones(shape), p=p, rng=rng)[0] for _ in range(count)]


def torch_dropped_layers(kind, x, state, params, between):
    """`torch_layers` one at a time, with the given masks between them; without a state."""
    ends = []
    for layer, p in enumerate(params):
        x = x * torch.tensor(between[layer - 1]) if layer else x
        x, end = torch_layers(kind, x, None, [p])
        ends.append(end)
    return x, map_leaves(lambda *parts: torch.cat(parts), *ends)

"""What the recurrent ops share: checks of their arguments and zeros in place of None.

No gradient lives here; every one stands in its op's own file.
"""

import numpy as np

from minillm.ops._op import check_shape

__all__ = ["add_into", "check_cell", "check_layers", "check_state", "given", "sigmoid", "start"]

KEYS = ("weight_x", "weight_h", "bias")


def sigmoid(a):
    """1 / (1 + exp(-a)), written so that no argument overflows; the op is in sigmoid.py."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def check_cell(x, h, params, *, gates, keys=KEYS):
    """Refuse a cell's arguments unless x is (B, C), h (B, K), and params fit the two.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    check_shape("x", x, (None, None))
    check_shape("h", h, (x.shape[0], None))
    _check_weights("params", params, x.shape[-1], h.shape[-1], gates, keys)


def check_layers(x, params, *, gates, keys=KEYS):
    """Refuse a layer stack's arguments unless x is (B, T, C) and the layers fit each other.

    Returns
    -------
    shape : (L, B, K), the shape of the state

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    check_shape("x", x, (None, None, None))
    if x.shape[1] == 0:
        raise ValueError(f"x must have at least one time step, got shape {x.shape}")
    if not isinstance(params, list | tuple) or not params:
        raise ValueError(f"params must be a list of at least one layer's dict, got {params!r:.80}")
    _check_keys("params[0]", params[0], keys)
    channels, hidden = x.shape[-1], params[0]["weight_h"].shape[0]
    for layer, weights in enumerate(params):
        _check_weights(f"params[{layer}]", weights, channels, hidden, gates, keys)
        channels = hidden
    return len(params), x.shape[0], hidden


def _check_weights(label, params, channels, hidden, gates, keys):
    _check_keys(label, params, keys)
    check_shape(f"{label}['weight_x']", params["weight_x"], (channels, gates * hidden))
    check_shape(f"{label}['weight_h']", params["weight_h"], (hidden, gates * hidden))
    for key in keys[2:]:
        check_shape(f"{label}[{key!r}]", params[key], (gates * hidden,))


def _check_keys(label, params, keys):
    if not isinstance(params, dict) or params.keys() != set(keys):
        came = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise ValueError(f"{label} must be a dict with the keys {', '.join(keys)}, got {came}")


def start(state, shape, like, name="state"):
    """The initial state, zeros where none is given."""
    if state is None:
        return np.zeros_like(like, shape=shape)
    check_shape(name, state, shape)
    return state


def check_state(state, name="state", *, optional=True):
    """The parts h and c of an LSTM's state (or of its gradient), both None where it is None.

    Raises
    ------
    ValueError
        for anything but a dict of h and c, or None where that is allowed.
    """
    if state is None and optional:
        return {"h": None, "c": None}
    if not isinstance(state, dict) or state.keys() != {"h", "c"}:
        came = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{name} must be a dict with the keys h, c, got {came}")
    return {"h": state["h"], "c": state["c"]}


def given(gradient, like, shape=None):
    """An upstream gradient; None stands for zeros, of `like`'s dtype and shape (or of `shape`)."""
    return np.zeros_like(like, shape=shape) if gradient is None else gradient


def add_into(total, part):
    """Add a dict of gradients to a running total of ours, in place."""
    for key, gradient in part.items():
        total[key] += gradient

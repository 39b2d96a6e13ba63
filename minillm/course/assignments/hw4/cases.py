"""Draws hw4's cases: weights that do not saturate, states given and absent, one layer and several.

Each function is named by a `draw` of the manifest: (rng, size, large) -> (args, kwargs).
"""

import numpy as np

ABSENT = 4  # the size of the cases without a state


def rnn_cell(rng, size, large):
    sizes = large or _sizes(rng, size, "BCK")
    h = _values(rng, size, sizes["B"], sizes["K"])
    return [_values(rng, size, sizes["B"], sizes["C"]), h, _weights(rng, size, sizes, 1)], {}


def lstm_cell(rng, size, large):
    sizes = large or _sizes(rng, size, "BCK")
    state = {key: _values(rng, size, sizes["B"], sizes["K"]) for key in ("h", "c")}
    return [_values(rng, size, sizes["B"], sizes["C"]), state, _weights(rng, size, sizes, 4)], {}


def rnn(rng, size, large):
    """One layer, in a fifth of the cases one step."""
    return _layers(rng, size, large, 1, 1)


def rnn_layers(rng, size, large):
    """Two layers, or three."""
    return _layers(rng, size, large, 1, 2 + (size > 2))


def lstm(rng, size, large):
    return _layers(rng, size, large, 4, 1)


def lstm_layers(rng, size, large):
    return _layers(rng, size, large, 4, 2 + (size > 2))


def _layers(rng, size, large, gates, count):
    sizes = large or _sizes(rng, size, "BTCK")
    if not large and size > 1:
        sizes["T"] = 1 if rng.random() < 0.2 else max(sizes["T"], 2)
    x = _values(rng, size, sizes["B"], sizes["T"], sizes["C"])
    params = [
        _weights(rng, size, sizes if layer == 0 else sizes | {"C": sizes["K"]}, gates)
        for layer in range(1 if large else count)
    ]
    shape = (len(params), sizes["B"], sizes["K"])
    state = _values(rng, size, *shape)
    if gates == 4:
        state = {"h": state, "c": _values(rng, size, *shape)}
    absent = size == ABSENT and not large
    return [x, None if absent else state, params], {}


def _sizes(rng, size, letters):
    """Sizes that all differ; for size 1 all are 1."""
    if size == 1:
        return dict.fromkeys(letters, 1)
    drawn = 1 + rng.permutation(size + len(letters))[: len(letters)]
    return dict(zip(letters, map(int, drawn), strict=True))


def _weights(rng, size, sizes, gates):
    """One layer's weights, so small that its gates still have slopes."""
    channels, hidden = sizes["C"], sizes["K"]
    return {
        "weight_x": _values(rng, size, channels, gates * hidden) / _root(channels, size),
        "weight_h": 0.9 * _values(rng, size, hidden, gates * hidden) / _root(hidden, size),
        "bias": 0.5 * _values(rng, size, gates * hidden),
    }


def _root(count, size):
    return np.sqrt(count) if size > 2 else 2.0


def _values(rng, size, *shape):
    values = rng.standard_normal(shape)
    return values.round(1) if size < 3 else values

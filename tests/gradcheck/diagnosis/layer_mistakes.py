"""Mistakes in the layers of layers.py, added to MISTAKES."""

from tests.gradcheck.diagnosis import layers
from tests.gradcheck.diagnosis.mistakes import MISTAKES, add, sizes, with_

LAYERS = {}


def normal(rng, *shapes, scale=1.0):
    return tuple(scale * rng.normal(size=shape) for shape in shapes)


def swiglu_args(rng):
    b, c, h, o = sizes(rng, 4)
    return normal(rng, (b, c), (c, h), (c, h), (h, o)), {}


def gru_args(rng):
    b, c, k = sizes(rng, 3)
    return normal(rng, (b, c), (b, k), (c, 3 * k), (k, 3 * k), (3 * k,), (3 * k,)), {}


def heads_args(rng):
    b, t, d, n = sizes(rng, 4, 2, 6)
    c = d * n
    x, qkv, out = normal(rng, (b, t, c), (c, 3 * c), (c, c), scale=0.6)
    return (x, qkv, out), {"n_head": n, "causal": bool(rng.integers(2))}


def block_args(rng):
    b, t, c, h = sizes(rng, 4, 3, 7)
    x, gain, bias, up, down = normal(rng, (b, t, c), c, c, (c, h), (h, c))
    return (x, {"gain": gain, "bias": bias, "up": up, "down": down}), {}


def loss_args(rng, smoothing=0.1):
    n, c, v = sizes(rng, 3, 3, 8)
    targets = rng.integers(0, v, n)
    return normal(rng, (n, c), (v, c), v), {"targets": targets, "smoothing": smoothing}


def lstm_args(rng):
    b, t, c, k = sizes(rng, 4)
    shapes = (b, t, c), (b, k), (b, k), (c, 4 * k), (k, 4 * k), (4 * k,)
    return normal(rng, *shapes, scale=0.8), {}


TABLE = {
    (layers.swiglu, layers.swiglu_back, swiglu_args): {
        "gate as sigmoid": "local_derivative",
        "silu as identity": "local_derivative",
        "up with gate": "local_derivative",
        "exchanged": "other_parameter",
        "one path of x": "overwritten",
        "other path of x": "overwritten",
    },
    (layers.gru_cell, layers.gru_cell_back, gru_args): {
        "z turned": ("part_wrong", "sign"),
        "r not applied": ("part_wrong", "local_derivative"),
        "n as sigmoid": ("part_wrong", "local_derivative"),
        "r zero": ("part_wrong", "zero"),
        "z without n": ("part_wrong", "missing_term"),
        "no direct path": "overwritten",
        "direct path alone": "overwritten",
        "new state": "wrong_step",
        "bh as b": ("other_parameter", "part_wrong"),
    },
    (layers.multi_head, layers.multi_head_back, heads_args): {
        "out not turned": "transposed",
        "heads reshaped": "transposed",
        "one head": "part_wrong",
        "no sum": "missing_term",
        "no scale": "factor",
        "keys not turned": "transposed",
        "values not turned": "transposed",
        "k turned": ("part_wrong", "sign"),
        "q and k exchanged": ("part_wrong", "other_parameter"),
        "k left out": ("part_wrong", "zero", "overwritten"),
        "v path of x": "overwritten",
        "first batch": "missing_sum",
    },
    (layers.block, layers.block_back, block_args): {
        "no tanh": "local_derivative",
        "no mean": "missing_term",
        "no normed": "missing_term",
        "up with x": ("local_derivative", "wrong_step"),
        "gain zero": "zero",
        "gain and bias": "other_parameter",
        "branch alone": "overwritten",
        "skip alone": "overwritten",
    },
    (layers.linear_loss, layers.linear_loss_back, loss_args): {
        "no target": "missing_term",
        "no smoothing": ("missing_term", "factor"),
        "no mean": "factor",
        "turned": "sign",
        "weight zero": "zero",
        "bias mean": ("factor", "missing_sum"),
    },
    (layers.lstm, layers.lstm_back, lstm_args): {
        "state unused": "upstream_ignored",
        "h dropped": "overwritten",
        "c dropped": "overwritten",
        "new c": ("wrong_step", "part_wrong"),
        "later h": "wrong_step",
        "order of steps": "wrong_step",
        "assigned": "overwritten",
    },
}
for (forward, backward, draw), kinds in TABLE.items():
    for kind, causes in kinds.items():
        name = f"{forward.__name__}: {kind}"
        add(name, causes, forward, with_(backward, wrong=kind), draw)
        LAYERS[name] = MISTAKES.pop(name)

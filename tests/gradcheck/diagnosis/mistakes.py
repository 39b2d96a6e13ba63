"""Wrong backwards as people write them, each with the causes that name its mistake.

MISTAKES maps a name to (causes, forward, wrong backward, draw); draw(rng) -> (args, kwargs).
"""

import numpy as np

from tests.gradcheck.diagnosis import functions as f

MISTAKES = {}


def sizes(rng, n, least=2, most=7):
    """n different lengths."""
    return [int(v) for v in rng.permutation(np.arange(least, max(most, least + n)))[:n]]


def add(name, causes, forward, backward, draw):
    causes = (causes,) if isinstance(causes, str) else causes
    MISTAKES[name] = causes, forward, backward, draw


def changed(backward, *changes):
    """A backward with its gradients passed through functions (None: as they are)."""

    def wrong(dout, cache):
        grads = backward(dout, cache)
        if not isinstance(grads, tuple):
            return changes[0](grads)
        changes_all = changes + (None,) * (len(grads) - len(changes))
        return tuple(g if c is None else c(g) for g, c in zip(grads, changes_all, strict=True))

    return wrong


def with_(backward, **options):
    return lambda dout, cache: backward(dout, cache, **options)


# Affine ------------------------------------------------------------------------------------------
def affine_args(rng):
    b, i, o = sizes(rng, 3)
    return (rng.normal(size=(b, i)), rng.normal(size=(i, o)), rng.normal(size=o)), {}


def square_args(rng):
    (n,) = sizes(rng, 1, 3)
    b = n + 1
    return (rng.normal(size=(b, n)), rng.normal(size=(n, n)), rng.normal(size=n)), {}


def affine_x(change):
    return changed(f.affine_back, change)


def wrong_affine(dx=None, dw=None, db=None):
    return changed(f.affine_back, dx, dw, db)


def both(function):
    def back(dy, cache):
        x, w = cache
        right = f.affine_back(dy, cache)
        return function(dy, x, w, right)

    return back


add("affine: dx turned", "sign", f.affine, wrong_affine(dx=np.negative), affine_args)
add("affine: all turned", "sign", f.affine, wrong_affine(*[np.negative] * 3), affine_args)
add("affine: dw twice", "factor", f.affine, wrong_affine(dw=lambda g: 2 * g), affine_args)
add(
    "affine: dw by the batch",
    "factor",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1] / len(x), g[2])),
    affine_args,
)
add(
    "affine: db a mean",
    ("factor", "missing_sum"),
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1], dy.mean(0))),
    affine_args,
)
add(
    "affine: db first row",
    "missing_sum",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1], dy[0])),
    affine_args,
)
add(
    "affine: db last row",
    ("missing_sum", "overwritten"),
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1], dy[-1])),
    affine_args,
)
add(
    "affine: dw of one sample",
    "missing_sum",
    f.affine,
    both(lambda dy, x, w, g: (g[0], np.outer(x[0], dy[0]), g[2])),
    affine_args,
)
add(
    "affine: weight not turned",
    "transposed",
    f.affine,
    both(lambda dy, x, w, g: (dy @ w, g[1], g[2])),
    square_args,
)
add(
    "affine: dw turned",
    "transposed",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1].T, g[2])),
    square_args,
)
add(
    "affine: dw reshaped",
    "transposed",
    f.affine,
    both(lambda dy, x, w, g: (g[0], (dy.T @ x).reshape(w.shape), g[2])),
    affine_args,
)
add("affine: db zero", "zero", f.affine, wrong_affine(db=lambda g: 0 * g), affine_args)
add(
    "affine: dout unused in db",
    "upstream_ignored",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1], np.full(w.shape[1], float(len(x))))),
    affine_args,
)
add(
    "affine: db sums all",
    ("upstream_ignored", "missing_sum"),
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1], np.full(w.shape[1], dy.sum()))),
    affine_args,
)
add(
    "affine: decay in dw",
    "upstream_ignored",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1] + 0.1 * w, g[2])),
    affine_args,
)
add(
    "affine: a row of dw left",
    "part_wrong",
    f.affine,
    both(lambda dy, x, w, g: (g[0], np.r_[0 * g[1][:1], g[1][1:]], g[2])),
    affine_args,
)
add(
    "affine: last column of dw turned",
    "part_wrong",
    f.affine,
    both(lambda dy, x, w, g: (g[0], np.c_[g[1][:, :-1], -g[1][:, -1:]], g[2])),
    affine_args,
)
add(
    "affine: one element of dw",
    "part_wrong",
    f.affine,
    both(lambda dy, x, w, g: (g[0], g[1] + g[1] * (np.arange(w.size).reshape(w.shape) == 1), g[2])),
    affine_args,
)
add(
    "affine: dx rolled",
    ("wrong_step", "other_parameter"),
    f.affine,
    wrong_affine(dx=lambda g: np.roll(g, 1, 0)),
    affine_args,
)


# Pointwise ---------------------------------------------------------------------------------------
def pointwise_args(rng):
    a, b = sizes(rng, 2)
    return (rng.normal(size=(a, b)),), {}


def pointwise(name, cause, function, wrong):
    add(
        name,
        cause,
        lambda x: (function(x), x),
        lambda dy, x: wrong(dy, x, function(x)),
        pointwise_args,
    )


pointwise("tanh: as sigmoid", "local_derivative", np.tanh, lambda dy, x, y: dy * y * (1 - y))
pointwise("tanh: at the input", "local_derivative", np.tanh, lambda dy, x, y: dy * (1 - x * x))
pointwise("tanh: left out", "local_derivative", np.tanh, lambda dy, x, y: dy)
pointwise("tanh: dout unused", "upstream_ignored", np.tanh, lambda dy, x, y: 1 - y * y)
pointwise("exp: at the output", "local_derivative", np.exp, lambda dy, x, y: dy * np.exp(y))
pointwise("square: half", "factor", np.square, lambda dy, x, y: dy * x)
pointwise("relu: no gate", "mask_forgotten", lambda x: np.maximum(x, 0), lambda dy, x, y: dy)
pointwise(
    "relu: turned gate", "mask_forgotten", lambda x: np.maximum(x, 0), lambda dy, x, y: dy * (x < 0)
)
pointwise("clip: no gate", "mask_forgotten", lambda x: np.clip(x, -0.5, 0.5), lambda dy, x, y: dy)


def dropout_args(rng):
    a, b = sizes(rng, 2, 3)
    keep = rng.random((a, b)) < 0.6
    keep[0, 0], keep[-1, -1] = True, False
    return (rng.normal(size=(a, b)),), {"keep": keep, "p": 0.4}


def dropout(x, *, keep, p):
    return x * keep / (1 - p), (keep, p)


add(
    "dropout: mask forgotten",
    "mask_forgotten",
    dropout,
    lambda dy, c: dy / (1 - c[1]),
    dropout_args,
)
add("dropout: all forgotten", "mask_forgotten", dropout, lambda dy, c: dy, dropout_args)
add("dropout: not scaled", "factor", dropout, lambda dy, c: dy * c[0], dropout_args)


# Softmax and norms -------------------------------------------------------------------------------
def rows_args(rng):
    a, b = sizes(rng, 2, 3)
    return (rng.normal(size=(a, b)),), {}


def norm_args(rng):
    a, b, c = sizes(rng, 3, 3)
    return (1 + 2 * rng.normal(size=(a, b, c)), rng.normal(size=c), rng.normal(size=c)), {}


def batch_args(rng):
    a, c = sizes(rng, 2, 4, 8)
    return (1 + 2 * rng.normal(size=(a, c)), rng.normal(size=c), rng.normal(size=c)), {"axis": 0}


def rms_args(rng):
    a, c = sizes(rng, 2, 3)
    return (1 + rng.normal(size=(a, c)), rng.normal(size=c)), {}


def rank_two_args(rng):
    a, c = sizes(rng, 2, 4, 8)
    return (1 + 2 * rng.normal(size=(a, c)), rng.normal(size=c), rng.normal(size=c)), {}


add("softmax: no sum", "missing_term", f.softmax, lambda dy, y: y * dy, rows_args)
add(
    "softmax: sum added",
    "missing_term",
    f.softmax,
    lambda dy, y: y * (dy + (dy * y).sum(-1, keepdims=True)),
    rows_args,
)
add(
    "softmax: sum over all",
    "missing_term",
    f.softmax,
    lambda dy, y: y * (dy - (dy * y).sum()),
    rows_args,
)
add(
    "softmax: of dout",
    "missing_term",
    f.softmax,
    lambda dy, y: y * (dy - dy.sum(-1, keepdims=True)),
    rows_args,
)
add("softmax: as sigmoid", "missing_term", f.softmax, lambda dy, y: y * (1 - y) * dy, rows_args)
add("log_softmax: no sum", "missing_term", f.log_softmax, lambda dy, y: dy, rows_args)
add(
    "log_softmax: not exp",
    "missing_term",
    f.log_softmax,
    lambda dy, y: dy - y * dy.sum(-1, keepdims=True),
    rows_args,
)
add("layer norm: no mean", "missing_term", f.norm, with_(f.norm_back, mean=0), norm_args)
add("layer norm: no normed", "missing_term", f.norm, with_(f.norm_back, normed=0), norm_args)
add(
    "layer norm: neither",
    "missing_term",
    f.norm,
    with_(f.norm_back, mean=0, normed=0),
    rank_two_args,
)
add(
    "layer norm: no gain in dx",
    ("local_derivative", "factor"),
    f.norm,
    with_(f.norm_back, scale=False),
    norm_args,
)
add(
    "layer norm: no deviation",
    ("local_derivative", "factor"),
    f.norm,
    with_(f.norm_back, inverse=False),
    norm_args,
)
add(
    "layer norm: gain and bias",
    "other_parameter",
    f.norm,
    lambda dy, c: (lambda g: (g[0], g[2], g[1]))(f.norm_back(dy, c)),
    norm_args,
)
add(
    "layer norm: dgain first row",
    "missing_sum",
    f.norm,
    lambda dy, c: (lambda g: (g[0], (dy * c[0]).sum(1)[0], g[2]))(f.norm_back(dy, c)),
    norm_args,
)
add(
    "layer norm: dgain not normed",
    ("local_derivative", "wrong_step"),
    f.norm,
    lambda dy, c: (lambda g: (g[0], (dy * (c[0] / c[1])).sum((0, 1)), g[2]))(f.norm_back(dy, c)),
    norm_args,
)
add("batch norm: no mean", "missing_term", f.norm, with_(f.norm_back, mean=0), batch_args)
add("batch norm: no normed", "missing_term", f.norm, with_(f.norm_back, normed=0), batch_args)
add("rms: no normed", "missing_term", f.rms, with_(f.rms_back, normed=0), rms_args)
add("rms: normed added", "missing_term", f.rms, with_(f.rms_back, normed=-1), rms_args)


# Attention ---------------------------------------------------------------------------------------
def attention_args(rng, causal=False, same=False):
    b, t, s, d, e = sizes(rng, 5, 2, 8)
    d, s = max(d, 3), max(s, 3)
    t, s, d, e = (s, s, s + 1, s + 2) if same else (t, s, d, e)
    args = rng.normal(size=(b, t, d)), rng.normal(size=(b, s, d)), rng.normal(size=(b, s, e))
    return args, {"scale": d**-0.5, "causal": causal}


def same_args(rng):
    return attention_args(rng, same=True)


def grouped_args(rng):
    h, t, s, d = sizes(rng, 4)
    return (rng.normal(size=(2 * h, t, d)), rng.normal(size=(h, s, d))), {"group": 2}


def only_first_of_group(dy, cache):
    dq, _ = f.grouped_back(dy, cache)
    q, k, group = cache
    return dq, (dy.swapaxes(1, 2) @ q)[::group].reshape(k.shape)


def values_not_turned(dy, cache):
    dq, dk, _ = f.attention_back(dy, cache)
    return dq, dk, cache[3] @ dy


def keys_not_turned(dy, cache):
    q, k, v, p, scale = cache
    dp = dy @ v.swapaxes(1, 2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    return ds @ k, ds @ q, p.swapaxes(1, 2) @ dy


add(
    "attention: no sum",
    "missing_term",
    f.attention,
    with_(f.attention_back, subtract=0),
    attention_args,
)
add(
    "attention: no scale",
    "factor",
    f.attention,
    with_(f.attention_back, scaled=False),
    attention_args,
)
add(
    "attention: dk and dv",
    "other_parameter",
    f.attention,
    lambda dy, c: (lambda g: (g[0], g[2], g[1]))(f.attention_back(dy, c)),
    lambda rng: (lambda a: ((a[0][0], a[0][1], a[0][1] + 1), a[1]))(attention_args(rng)),
)
add("attention: values not turned", "transposed", f.attention, values_not_turned, same_args)
add("attention: keys not turned", "transposed", f.attention, keys_not_turned, same_args)
add("grouped: first of the group", "missing_sum", f.grouped, only_first_of_group, grouped_args)
add(
    "grouped: mean over the group",
    ("factor", "missing_sum"),
    f.grouped,
    changed(f.grouped_back, None, lambda g: g / 2),
    grouped_args,
)


# Embedding and tied weights ----------------------------------------------------------------------
def embedding_args(rng):
    v, t, c = sizes(rng, 3, 4, 8)
    ids = rng.integers(0, v - 1, (2, t))
    ids[0, 0] = ids[1, -1]
    return (rng.normal(size=(v, c)),), {"ids": ids}


def assigned(dy, cache):
    ids, shape = cache
    dweight = np.zeros(shape)
    dweight[ids] = dy
    return dweight


def buffered(dy, cache):
    ids, shape = cache
    dweight = np.zeros(shape)
    dweight[ids] += dy
    return dweight


def tied_args(rng):
    v, t, c = sizes(rng, 3, 4, 8)
    return (rng.normal(size=(v + 3, c)), rng.normal(size=v + 3)), {"ids": rng.integers(0, v, t)}


add("embedding: assigned", "overwritten", f.embedding, assigned, embedding_args)
add("embedding: buffered", "overwritten", f.embedding, buffered, embedding_args)
add(
    "embedding: one row off",
    "wrong_step",
    f.embedding,
    lambda dy, c: np.roll(f.embedding_back(dy, c), 1, 0),
    embedding_args,
)
add("tied: no embedding part", "overwritten", f.tied, with_(f.tied_back, inner=False), tied_args)


# Recurrent ---------------------------------------------------------------------------------------
def rnn_args(rng):
    b, t, c, k = sizes(rng, 4)
    shapes = (b, t, c), (b, k), (c, k), (k, k), (k,)
    return tuple(0.8 * rng.normal(size=s) for s in shapes), {}


def cell_args(rng):
    b, c, k = sizes(rng, 3, 3)
    shapes = (b, c), (b, k), (b, k), (c, 4 * k), (k, 4 * k), (4 * k,)
    return tuple(rng.normal(size=s) for s in shapes), {}


add("rnn: no way back", "overwritten", f.rnn, with_(f.rnn_back, keep=False), rnn_args)
add("rnn: assigned", "overwritten", f.rnn, with_(f.rnn_back, add=False), rnn_args)
add("rnn: later state", "wrong_step", f.rnn, with_(f.rnn_back, late=1), rnn_args)
add(
    "rnn: no tanh",
    "local_derivative",
    f.rnn,
    with_(f.rnn_back, derive=False),
    lambda rng: (lambda a: ((a[0][0][:, :1], *a[0][1:]), {}))(rnn_args(rng)),
)
add(
    "lstm: new cell in the gate",
    "wrong_step",
    f.lstm_cell,
    with_(f.lstm_cell_back, old=False),
    cell_args,
)
add("lstm: f turned", "part_wrong", f.lstm_cell, with_(f.lstm_cell_back, turned=1), cell_args)
add(
    "lstm: g as sigmoid",
    ("part_wrong", "local_derivative"),
    f.lstm_cell,
    with_(f.lstm_cell_back, g_sigmoid=True),
    cell_args,
)
add(
    "lstm: i and f exchanged",
    ("part_wrong", "other_parameter"),
    f.lstm_cell,
    with_(f.lstm_cell_back, order=(1, 0, 2, 3)),
    cell_args,
)
add(
    "lstm: dc unused",
    "upstream_ignored",
    f.lstm_cell,
    with_(f.lstm_cell_back, use_c=False),
    cell_args,
)


# Convolution, pooling ----------------------------------------------------------------------------
def conv_args(rng):
    c, o = sizes(rng, 2)
    return (rng.normal(size=(8, c)), rng.normal(size=(3, c, o))), {}


def pool_args(rng):
    t, c = sizes(rng, 2)
    return (rng.normal(size=(3 * t, c)),), {"width": 3}


add("conv: assigned", "overwritten", f.conv, with_(f.conv_back, add=False), conv_args)
add(
    "conv: dw reversed",
    ("wrong_step", "transposed"),
    f.conv,
    changed(f.conv_back, None, lambda g: g[::-1]),
    conv_args,
)
add(
    "conv: one step off",
    "wrong_step",
    f.conv,
    changed(f.conv_back, lambda g: np.r_[0 * g[:1], g[:-1]]),
    conv_args,
)
add(
    "max pool: to all",
    "mask_forgotten",
    f.max_pool,
    lambda dy, c: np.repeat(dy, 3, 0).reshape(c[1]),
    pool_args,
)


# Losses ------------------------------------------------------------------------------------------
def loss_args(rng):
    n, v = sizes(rng, 2, 4, 9)
    targets = rng.integers(0, v, n)
    targets[1] = -1
    return (rng.normal(size=(n, v)),), {"targets": targets}


def mse(x, y):
    return ((x - y) ** 2).mean(), x - y


def pair_args(rng):
    a, b = sizes(rng, 2, 3)
    return (rng.normal(size=(a, b)), rng.normal(size=(a, b))), {}


add(
    "cross entropy: no target",
    "missing_term",
    f.cross_entropy,
    with_(f.cross_entropy_back, hot=0),
    loss_args,
)
add(
    "cross entropy: no mean",
    "factor",
    f.cross_entropy,
    with_(f.cross_entropy_back, mean=False),
    loss_args,
)
add(
    "cross entropy: ignored counts",
    "mask_forgotten",
    f.cross_entropy,
    with_(f.cross_entropy_back, ignored=False),
    loss_args,
)
add(
    "cross entropy: dout unused",
    "upstream_ignored",
    f.cross_entropy,
    lambda d, c: f.cross_entropy_back(1.0, c),
    loss_args,
)
add("mse: no two", "factor", mse, lambda d, c: (d * c / c.size, -d * c / c.size), pair_args)
add("mse: not the mean", "factor", mse, lambda d, c: (2 * d * c, -2 * d * c), pair_args)
add("mse: both alike", "sign", mse, lambda d, c: (2 * d * c / c.size,) * 2, pair_args)


# Composed ----------------------------------------------------------------------------------------
def mlp_args(rng):
    b, i, h, o = sizes(rng, 4)
    shapes = (b, i), (i, h), (h,), (h, o), (o,)
    return tuple(rng.normal(size=s) for s in shapes), {}


add("mlp: no tanh", "local_derivative", f.mlp, with_(f.mlp_back, derivative=np.ones_like), mlp_args)
add(
    "mlp: as sigmoid",
    "local_derivative",
    f.mlp,
    with_(f.mlp_back, derivative=lambda a: a * (1 - a)),
    mlp_args,
)
add("residual: no skip", "overwritten", f.residual, with_(f.residual_back, skip=False), square_args)
add(
    "residual: no gate",
    "mask_forgotten",
    f.residual,
    with_(f.residual_back, gate=False),
    square_args,
)


def rotate(x, *, angle):
    """Pairs (x_i, x_{i + n/2}) of a row turned by an angle that grows with the row."""
    a, b = np.split(x, 2, -1)
    turn = angle * np.arange(1, len(x) + 1)[:, None] / np.arange(1, a.shape[1] + 1)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1), (angle, x.shape)


def rotate_args(rng):
    t, d = sizes(rng, 2)
    return (rng.normal(size=(t, 2 * d)),), {"angle": 0.7}


add(
    "rotary: turned on",
    ("sign", "transposed"),
    rotate,
    lambda dy, c: rotate(dy, angle=c[0])[0],
    rotate_args,
)


def swapped(x, *, heads):
    t, c = x.shape
    return x.reshape(t, heads, c // heads).swapaxes(0, 1).copy(), (heads, t, c)


add(
    "heads: not exchanged",
    "transposed",
    swapped,
    lambda dy, c: dy.reshape(c[1], c[2]),
    lambda rng: ((rng.normal(size=(3, 8)),), {"heads": 2}),
)

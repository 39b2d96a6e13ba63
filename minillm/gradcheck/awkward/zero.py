"""Gradients that truly vanish: a checker can't confirm them, and must not refuse them."""

import numpy as np

from minillm.gradcheck.awkward._family import (
    Case,
    between,
    dims,
    magnitude,
    normal,
    of,
    pick,
    right,
)

NOTHING = ("no influence",)  # the output stays the same to the last bit
# it changes by rounding alone, if at all, and what backward says is rounding, too
CANCELS = ("vanishes", "no influence", "saturated", "noise")


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _dsoftmax(d, y):
    return y * (d - (d * y).sum(-1, keepdims=True))


@right
def softmax_shift(rng, dtype):
    """A shift of all logits alike, through a softmax that forgets it."""
    n, k = dims(rng, 2)
    x, shift = normal(rng, dtype, n, k), normal(rng, dtype, n, 1)

    def vjp(d, x, shift):
        g = _dsoftmax(d, _softmax(x + shift))
        return g, g.sum(-1, keepdims=True)

    zero = {"shift": CANCELS} | ({"x": NOTHING} if k == 1 else {})
    return of(lambda x, shift: _softmax(x + shift), vjp, x, shift, zero=zero)


@right
def softmax_of_one(rng, dtype):
    """One class only: the probability is 1 whatever comes in."""
    x = normal(rng, dtype, dims(rng, 1)[0], 1, scale=magnitude(rng))
    return of(_softmax, lambda d, x: _dsoftmax(d, _softmax(x)), x, zero={"x": NOTHING})


@right
def layer_norm_of_one(rng, dtype):
    """Rows of one feature: the norm gives 0 and leaves the bias."""
    x, gain = normal(rng, dtype, dims(rng, 1)[0], 1), normal(rng, dtype, 1)
    bias = normal(rng, dtype, 1)

    def f(x, gain, bias):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias

    def vjp(d, x, gain, bias):
        return 0 * x, 0 * gain, d.sum(0)

    return of(f, vjp, x, gain, bias, zero={"x": NOTHING, "gain": NOTHING})


@right
def attention_key_bias(rng, dtype):
    """A bias of the keys adds the same to all scores of a query."""
    t, s, c = dims(rng, 3, least=2)
    q, k, bias = (normal(rng, dtype, *shape) for shape in ((t, c), (s, c), (c,)))
    v = normal(rng, dtype, s, c)

    def weights(q, k, bias):
        return _softmax(q @ (k + bias).T / c**0.5)

    def vjp(d, q, k, bias, v):
        p = weights(q, k, bias)
        ds = _dsoftmax(d @ v.T, p) / c**0.5
        dk = ds.T @ q
        return ds @ (k + bias), dk, dk.sum(0), p.T @ d

    def f(q, k, bias, v):
        return weights(q, k, bias) @ v

    return of(f, vjp, q, k, bias, v, zero={"bias": CANCELS})


@right
def bias_before_centring(rng, dtype):
    """A bias that a mean subtracted afterwards takes away, as before batch norm."""
    n, c = dims(rng, 2, least=2)
    x, bias = normal(rng, dtype, n, c), normal(rng, dtype, c, scale=magnitude(rng, 2))

    def f(x, bias):
        y = x + bias
        return y - y.mean(0)

    def vjp(d, x, bias):
        g = d - d.mean(0)
        return g, g.sum(0)

    return of(f, vjp, x, bias, zero={"bias": CANCELS})


@right
def scale_before_normalising(rng, dtype):
    """A factor that the normalisation after it takes out again."""
    n, c = dims(rng, 2, least=2)
    x, factor = normal(rng, dtype, n, c), between(rng, dtype, 0.5, 2)

    def f(x, factor):
        y = x * factor
        return y / np.sqrt((y * y).sum(-1, keepdims=True))

    def vjp(d, x, factor):
        y = x * factor
        norm = np.sqrt((y * y).sum(-1, keepdims=True))
        unit = y / norm
        dy = (d - unit * (d * unit).sum(-1, keepdims=True)) / norm
        return dy * factor, (dy * x).sum()

    return of(f, vjp, x, factor, zero={"factor": CANCELS})


@right
def unused(rng, dtype):
    """An argument that plays no part."""
    shape = dims(rng, 2)
    x, y = normal(rng, dtype, *shape), normal(rng, dtype, *dims(rng, 1), scale=magnitude(rng))
    return of(
        lambda x, y: np.sin(x),
        lambda d, x, y: (d * np.cos(x), np.zeros_like(y)),
        x,
        y,
        zero={"y": NOTHING},
    )


@right
def constant(rng, dtype):
    """An output that is the same for all inputs."""
    x, value = normal(rng, dtype, *dims(rng, 2)), magnitude(rng)

    def f(x):
        return np.full(3, value, x.dtype)

    return of(f, lambda d, x: np.zeros_like(x), x, zero={"x": NOTHING})


@right
def times_zero(rng, dtype):
    """A term that is switched off by a weight of 0."""
    x, y = normal(rng, dtype, *dims(rng, 1)), normal(rng, dtype, *dims(rng, 1))

    def f(x, y):
        return (x**2).sum() + 0.0 * y.sum()

    return of(f, lambda d, x, y: (2 * d * x, 0 * y), x, y, zero={"y": NOTHING})


@right
def cancelled(rng, dtype):
    """(x + y) - y: nothing is left of y but rounding."""
    shape = dims(rng, 2)
    x, y = normal(rng, dtype, *shape), normal(rng, dtype, *shape, scale=pick(rng, 1, 10, 100))
    return of(lambda x, y: (x + y) - y, lambda d, x, y: (d, 0 * d), x, y, zero={"y": CANCELS})


@right
def dead_units(rng, dtype):
    """ReLU with all units far on the dead side."""
    n, c, k = dims(rng, 3)
    x, w, b = normal(rng, dtype, n, c), normal(rng, dtype, c, k), np.full(k, -40, dtype)

    def vjp(d, x, w, b):
        d = d * (x @ w + b > 0)
        return d @ w.T, x.T @ d, d.sum(0)

    zero = dict.fromkeys(("x", "w", "b"), NOTHING)
    return of(lambda x, w, b: np.maximum(x @ w + b, 0), vjp, x, w, b, zero=zero)


@right
def saturated(rng, dtype):
    """A logistic unit so far out that its output is 1 to the last digit."""
    x = between(rng, dtype, 40, 60, *dims(rng, 2))
    exact = rng.random() < 0.5  # backward from the output finds 0, from the input 1e-20

    def f(x):
        return 1 / (1 + np.exp(-x))

    def vjp(d, x):
        y = f(x)
        return d * y * (1 - y) if exact else d * y * np.exp(-x)

    return of(f, vjp, x, zero={"x": NOTHING if exact else ("saturated", "vanishes")})


@right
def one_hot_softmax(rng, dtype):
    """Logits of 1e3 and 1e4: every probability is exactly 0 or 1."""
    n, k = dims(rng, 2)
    top = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)
    x = (top * pick(rng, 1e3, 1e4) + normal(rng, dtype, n, k)).astype(dtype)
    return of(_softmax, lambda d, x: _dsoftmax(d, _softmax(x)), x, zero={"x": NOTHING})


@right
def nothing_counts(rng, dtype):
    """A loss whose targets are all ignored: 0, and no gradient."""
    n, k = dims(rng, 2)
    logits, targets = normal(rng, dtype, n, k), np.full(n, -100)

    def f(logits, *, targets):
        kept = targets >= 0
        shifted = logits - logits.max(-1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        picked = logs[np.arange(n), np.where(kept, targets, 0)]
        return -(picked * kept).sum() / max(kept.sum(), 1)

    return of(
        f,
        lambda d, logits, *, targets: 0 * logits,
        logits,
        targets=targets,
        zero={"logits": NOTHING},
    )


@right
def flat_point(rng, dtype):
    """x**4 summed at 0, where the gradient is 0 and so is the curvature."""
    x = np.zeros(dims(rng, 2), dtype)
    return of(lambda x: (x**4).sum(), lambda d, x: 4 * d * x**3, x, zero={"x": ("vanishes",)})


@right
def bottom(rng, dtype):
    """A mean squared error of equals: its least point."""
    a = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng, 4))
    b = a.copy()

    def vjp(d, a, b):
        g = (d * 2 / a.size * (a - b)).astype(a.dtype)
        return g, -g

    def f(a, b):
        return ((a - b) ** 2).mean()

    return of(f, vjp, a, b, zero=dict.fromkeys(("a", "b"), ("vanishes",)))


@right
def cosine_top(rng, dtype):
    """The cosine of the angle between equals, at its largest."""
    a = normal(rng, dtype, dims(rng, 1, 6, 2)[0])
    b = (2 * a).astype(dtype)

    def parts(a, b):
        return np.sqrt((a * a).sum()), np.sqrt((b * b).sum())

    def f(a, b):
        na, nb = parts(a, b)
        return (a * b).sum() / (na * nb)

    def vjp(d, a, b):
        na, nb = parts(a, b)
        cos = (a * b).sum() / (na * nb)
        return d * (b / nb - cos * a / na) / na, d * (a / na - cos * b / nb) / nb

    return of(f, vjp, a, b, zero=dict.fromkeys(("a", "b"), CANCELS))


@right
def one_output_without(rng, dtype):
    """Of two outputs one has nothing to do with y and the other nothing with x: neither is zero."""
    n, m = dims(rng, 2)
    x, y = normal(rng, dtype, n), normal(rng, dtype, m, scale=magnitude(rng))

    def forward(x, y):
        return (x**2, np.tanh(x[0]) * y), (x, y)

    def backward(d, cache):
        x, y = cache
        t = np.tanh(x[0])
        dx = 2 * x * d[0]
        dx[0] += (d[1] * y).sum() * (1 - t * t)
        return dx, d[1] * t

    return Case.pair(forward, backward, x, y)

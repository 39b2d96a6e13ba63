"""Normalisations and norms: nearly constant rows, tiny vectors, any magnitude."""

import numpy as np

from minillm.gradcheck.awkward._family import (
    between,
    dims,
    magnitude,
    normal,
    of,
    pick,
    right,
)


def _normed(x, axis, eps):
    centred = x - x.mean(axis, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(axis, keepdims=True) + eps)
    return centred * inverse, inverse


def _dnormed(d, normed, inverse, axis):
    mean = d.mean(axis, keepdims=True)
    return inverse * (d - mean - normed * (d * normed).mean(axis, keepdims=True))


def _norm_case(rng, x, axis=-1, eps=1e-5, initial=False):
    """The norm of x along an axis with gain and bias for its last one, drawn or as initialised."""
    c, dtype = x.shape[-1], x.dtype
    gain, bias = normal(rng, dtype, c), normal(rng, dtype, c)
    if initial:
        gain, bias = np.ones(c, dtype), np.zeros(c, dtype)

    def f(x, gain, bias):
        return _normed(x, axis, eps)[0] * gain + bias

    def vjp(d, x, gain, bias):
        normed, inverse = _normed(x, axis, eps)
        rows = tuple(range(x.ndim - 1))
        dx = _dnormed(d * gain, normed, inverse, axis)
        return dx, (d * normed).sum(rows), d.sum(rows)

    return of(f, vjp, x, gain, bias)


@right
def layer_norm(rng, dtype):
    """Inputs from 1e-8 (eps decides) to 1e8 (eps is nothing)."""
    n, t, c = dims(rng, 3, least=2)
    x = normal(rng, dtype, n, t, c + 1, scale=magnitude(rng))
    return _norm_case(rng, x)


@right(
    doubt=0.02,
    reasons=("noise", "curvature"),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def layer_norm_of_nearly_constant_rows(rng, dtype):
    """Rows that differ by 1e-2 to 1e-5 of their mean: most digits cancel."""
    n, c = dims(rng, 2, 5, 3)
    x = normal(rng, dtype, n, c, scale=pick(rng, 1e-2, 1e-3, 1e-4, 1e-5), offset=1.0)
    return _norm_case(rng, x)


@right(
    doubt=0.14,
    reasons=("noise", "curvature"),
    why="x acts on a constant row on a scale of sqrt(eps), 0.003, too near float32's rounding",
)
def layer_norm_of_constant_rows(rng, dtype):
    """Some rows exactly constant: only eps keeps them finite, and the gradient there is steep."""
    n, c = dims(rng, 2, 5, 3)
    x = normal(rng, dtype, n, c)
    x[0] = x[0, 0]
    return _norm_case(rng, x)


@right(
    doubt=0.26,
    reasons=("noise", "curvature", "vanishes"),
    why="the gradient of x is of the order of eps, which float32 hardly holds",
)
def layer_norm_of_two(rng, dtype):
    """Rows of two features: without eps always plus or minus one, with eps hardly less so."""
    n = dims(rng, 1)[0]
    x = normal(rng, dtype, n, 2)
    return _norm_case(rng, x, eps=pick(rng, 1e-5, 1e-2))


@right
def layer_norm_with_constant_gain(rng, dtype):
    """Gain of ones and bias of zeros, as initialised: a constant upstream sees nothing there."""
    n, c = dims(rng, 2, 5, 3)
    return _norm_case(rng, normal(rng, dtype, n, c), initial=True)


@right
def batch_norm(rng, dtype):
    """Over the batch; features of unlike sizes side by side."""
    n, c = dims(rng, 2, 6, 3)
    sizes = 10.0 ** rng.integers(-2, 3, c)
    x = (normal(rng, dtype, n, c) * sizes + sizes).astype(dtype)
    return _norm_case(rng, x, axis=0)


@right(
    doubt=0.17,
    reasons=("noise", "curvature", "vanishes"),
    why="the gradient of x is of the order of eps, which float32 hardly holds",
)
def batch_norm_of_two(rng, dtype):
    """A batch of two: all that passes is which one was larger."""
    c = dims(rng, 1)[0]
    x = normal(rng, dtype, 2, c)
    return _norm_case(rng, x, axis=0, eps=1e-3)


@right
def rms_norm(rng, dtype):
    """Without centring, from 1e-8 to 1e8."""
    n, c = dims(rng, 2, 5, 2)
    x, gain = normal(rng, dtype, n, c, scale=magnitude(rng)), normal(rng, dtype, c)

    def f(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * gain

    def vjp(d, x, gain):
        inverse = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        normed = x * inverse
        dn = d * gain
        return inverse * (dn - normed * (dn * normed).mean(-1, keepdims=True)), (d * normed).sum(0)

    return of(f, vjp, x, gain)


@right
def norm_2(rng, dtype):
    """The Euclidean length of each row, at any magnitude."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng))

    def vjp(d, x):
        return d[:, None] * x / np.sqrt((x * x).sum(-1, keepdims=True))

    return of(lambda x: np.sqrt((x * x).sum(-1)), vjp, x)


@right
def unit_vectors(rng, dtype):
    """x / |x| at any magnitude; one row a hundred times shorter."""
    n, c = dims(rng, 2, 5, 2)
    x = normal(rng, dtype, n, c, scale=magnitude(rng))
    x[0] *= pick(rng, 1, 0.1, 0.01)

    def f(x):
        return x / np.sqrt((x * x).sum(-1, keepdims=True))

    def vjp(d, x):
        u = f(x)
        return (d - u * (d * u).sum(-1, keepdims=True)) / np.sqrt((x * x).sum(-1, keepdims=True))

    return of(f, vjp, x)


@right
def weight_norm(rng, dtype):
    """w = g v / |v|: v has no gradient along itself."""
    n, c, k = dims(rng, 3, 5, 2)
    x, v, g = normal(rng, dtype, n, c), normal(rng, dtype, c, k), normal(rng, dtype, k)

    def f(x, v, g):
        return x @ (g * v / np.sqrt((v * v).sum(0)))

    def vjp(d, x, v, g):
        length = np.sqrt((v * v).sum(0))
        u, dw = v / length, x.T @ d
        along = (dw * u).sum(0)
        return d @ (g * u).T, g / length * (dw - u * along), along

    return of(f, vjp, x, v, g)


@right
def cosine_similarity(rng, dtype):
    """Of rows of unlike lengths."""
    n, c = dims(rng, 2, 5, 2)
    a = normal(rng, dtype, n, c, scale=magnitude(rng))
    b = normal(rng, dtype, n, c, scale=magnitude(rng))

    def parts(a, b):
        ua = a / np.sqrt((a * a).sum(-1, keepdims=True))
        ub = b / np.sqrt((b * b).sum(-1, keepdims=True))
        return ua, ub, (ua * ub).sum(-1, keepdims=True)

    def vjp(d, a, b):
        ua, ub, cos = parts(a, b)
        d = d[:, None]
        la, lb = np.sqrt((a * a).sum(-1, keepdims=True)), np.sqrt((b * b).sum(-1, keepdims=True))
        return d * (ub - cos * ua) / la, d * (ua - cos * ub) / lb

    return of(lambda a, b: parts(a, b)[2][:, 0], vjp, a, b)


@right
def variance(rng, dtype):
    """np.var, at an offset of up to a thousand deviations."""
    n, c = dims(rng, 2, 6, 2)
    scale = magnitude(rng, 4)
    x = normal(rng, dtype, n, c, scale=scale, offset=scale * pick(rng, 0, 10, 1000))
    return of(
        lambda x: np.var(x, 0), lambda d, x: (2 * d * (x - x.mean(0)) / len(x)).astype(x.dtype), x
    )


@right
def deviation(rng, dtype):
    """np.std of spread-out and of nearly constant columns."""
    n, c = dims(rng, 2, 6, 2)
    x = normal(rng, dtype, n, c, scale=pick(rng, 1, 1e-2, 1e-4), offset=pick(rng, 0.0, 1.0))

    def vjp(d, x):
        return (d * (x - x.mean(0)) / (len(x) * np.std(x, 0))).astype(x.dtype)

    return of(lambda x: np.std(x, 0), vjp, x)


@right
def correlation(rng, dtype):
    """Pearson's, of unlike magnitudes."""
    n = dims(rng, 1, 8, 4)[0]
    a, b = normal(rng, dtype, n, scale=magnitude(rng)), normal(rng, dtype, n, scale=magnitude(rng))

    def units(a, b):
        ca, cb = a - a.mean(), b - b.mean()
        la, lb = np.sqrt((ca * ca).sum()), np.sqrt((cb * cb).sum())
        return ca / la, cb / lb, la, lb

    def f(a, b):
        ua, ub, _, _ = units(a, b)
        return (ua * ub).sum()

    def vjp(d, a, b):
        ua, ub, la, lb = units(a, b)
        r = (ua * ub).sum()
        return d * (ub - r * ua) / la, d * (ua - r * ub) / lb

    return of(f, vjp, a, b)


@right
def shares(rng, dtype):
    """x / sum(x) of positive values, at any magnitude."""
    x = between(rng, dtype, 0.1, 2, *dims(rng, 2, least=2))
    x = (x * magnitude(rng)).astype(dtype)

    def vjp(d, x):
        total = x.sum(-1, keepdims=True)
        return (d - (d * x).sum(-1, keepdims=True) / total) / total

    return of(lambda x: x / x.sum(-1, keepdims=True), vjp, x)

"""Tiny and huge values: of inputs, outputs, one argument, single elements; large offsets."""

import numpy as np

from minillm.gradcheck.awkward._family import (
    Case,
    dims,
    elementwise,
    magnitude,
    normal,
    of,
    pick,
    right,
)


@right
def inputs(rng, dtype):
    """A net's inputs from 1e-8 to 1e8, its nonlinearity scaled to match."""
    n, c = dims(rng, 2)
    scale = magnitude(rng)
    x, w = normal(rng, dtype, n, c, scale=scale), normal(rng, dtype, c, 3)
    return of(
        lambda x, w: np.tanh(x / scale @ w),
        lambda d, x, w: (
            (d * (1 - np.tanh(x / scale @ w) ** 2)) @ w.T / scale,
            (x / scale).T @ (d * (1 - np.tanh(x / scale @ w) ** 2)),
        ),
        x,
        w,
    )


@right
def outputs(rng, dtype):
    """A loss multiplied by 1e-8 to 1e8."""
    scale = magnitude(rng)
    x = normal(rng, dtype, *dims(rng, 2))
    return of(
        lambda x: scale * np.exp(np.sin(x)),
        lambda d, x: d * scale * np.exp(np.sin(x)) * np.cos(x),
        x,
    )


@right(
    doubt=0.12,
    reasons=("noise", "vanishes", "saturated"),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def one_argument(rng, dtype):
    """A bias a million times smaller, or larger, than what it is added to."""
    n, c = dims(rng, 2)
    x, b = normal(rng, dtype, n, c), normal(rng, dtype, c, scale=magnitude(rng, 6))
    return of(lambda x, b: np.sin(x) + b, lambda d, x, b: (d * np.cos(x), d.sum(0)), x, b)


@right(
    doubt=0.28,
    reasons=("noise", "vanishes", "saturated"),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def one_sensitivity(rng, dtype):
    """One argument moves the output a million times less than the other."""
    shape, small = dims(rng, 2), pick(rng, 1e-2, 1e-4, 1e-6)
    a, b = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    return of(
        lambda a, b: a * a + small * np.sin(b),
        lambda d, a, b: (2 * d * a, d * small * np.cos(b)),
        a,
        b,
    )


@right(
    doubt=0.08,
    reasons=("vanishes", "noise", "kink"),
    why="where the steepest sine is at its top, rounding changes the whole gradient",
)
def elements(rng, dtype):
    """One array whose elements range over eight decades, each scaled back by its own constant."""
    n = dims(rng, 1, 8, 2)[0]
    size = (10.0 ** rng.integers(-4, 5, n)).astype(dtype)
    x = (size * (1 + rng.random(n))).astype(dtype)
    return elementwise(lambda x: np.sin(x / size), lambda x: np.cos(x / size) / size, x)


@right
def rows(rng, dtype):
    """A weight matrix whose columns range over eight decades."""
    n, c = dims(rng, 2, least=2)
    size = 10.0 ** rng.integers(-4, 5, c)
    x, w = normal(rng, dtype, n, c), (normal(rng, dtype, c, c) * size).astype(dtype)
    return of(lambda x, w: x @ w, lambda d, x, w: (d @ w.T, x.T @ d), x, w)


@right
def nest(rng, dtype):
    """Parameters of one net, each of another magnitude."""
    n, c = dims(rng, 2, least=2)
    params = {name: normal(rng, dtype, c, scale=magnitude(rng)) for name in "abcd"}
    scales = {name: float(np.abs(value).max()) for name, value in params.items()}
    x = normal(rng, dtype, n, c)

    def f(x, params):
        return sum(np.sin(x * params[k] / scales[k]) for k in params)

    def vjp(d, x, params):
        inner = {k: d * np.cos(x * params[k] / scales[k]) for k in params}
        dx = sum(inner[k] * params[k] / scales[k] for k in params)
        return dx, {k: (inner[k] * x / scales[k]).sum(0) for k in params}

    return of(f, vjp, x, params)


@right
def offset_input(rng, dtype):
    """Values near 1e6 that differ by one: what counts is the difference."""
    offset = 1e6 if dtype == "float64" else 1e3
    x = normal(rng, dtype, *dims(rng, 2, least=2), offset=offset)
    return elementwise(lambda x: np.sin(x - offset), lambda x: np.cos(x - offset), x)


@right
def offset_of_few(rng, dtype):
    """The same, but the values are one or nearly alike, so that their spread says nothing."""
    offset = 1e6 if dtype == "float64" else 1e3
    x = normal(rng, dtype, 1, offset=offset)
    return elementwise(lambda x: np.sin(x - offset), lambda x: np.cos(x - offset), x)


@right
def offset_output(rng, dtype):
    """A constant of up to 1e6 on top of the output takes its last digits."""
    top = pick(rng, 10.0, 1e3, 1e6) if dtype == "float64" else pick(rng, 10.0, 100.0)
    x = normal(rng, dtype, *dims(rng, 2, least=2))
    return elementwise(lambda x: np.sin(x) + top, np.cos, x)


@right
def unlike_outputs(rng, dtype):
    """Two outputs, 1e8 and 1e-8; a leaf acts on the small one alone."""
    n = dims(rng, 1)[0]
    big, small = 10.0 ** int(rng.integers(2, 9)), 10.0 ** -int(rng.integers(2, 9))
    x, y = normal(rng, dtype, n), normal(rng, dtype, n)

    def backward(d, cache):
        x, y = cache
        return d[0] * big * np.cos(x), d[1] * small * 2 * y

    return Case.pair(lambda x, y: ((big * np.sin(x), small * y * y), (x, y)), backward, x, y)


@right
def sum_of_many(rng, dtype):
    """A mean over thousands of terms."""
    x = normal(rng, dtype, int(rng.integers(500, 3000)), offset=pick(rng, 0, 1))
    return of(lambda x: (x**2).mean(), lambda d, x: (2 * d * x / x.size).astype(x.dtype), x)


@right
def far_apart(rng, dtype):
    """A squared error whose target is far away: a large loss, a modest gradient."""
    x, far = normal(rng, dtype, *dims(rng, 2)), pick(rng, 10.0, 1e3, 1e6)
    far = min(far, 1e3) if dtype == "float32" else far
    return of(
        lambda x: ((x - far) ** 2).mean(),
        lambda d, x: (2 * d * (x - far) / x.size).astype(x.dtype),
        x,
    )


@right(
    doubt=0.03,
    reasons=("noise", "saturated", "vanishes"),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def polynomial(rng, dtype):
    """Tiny and huge coefficients of the powers of x."""
    coefficients = np.array([magnitude(rng, 4) for _ in range(5)])
    x = normal(rng, dtype, *dims(rng, 1), scale=pick(rng, 0.01, 1.0, 100.0))
    c = [float(value) for value in coefficients]

    def f(x):
        return c[0] + x * (c[1] + x * (c[2] + x * (c[3] + x * c[4])))

    return elementwise(f, lambda x: c[1] + x * (2 * c[2] + x * (3 * c[3] + x * 4 * c[4])), x)


@right
def sharp(rng, dtype):
    """tanh(x / w) with w far below the spread of x: all the change is within a hundredth."""
    w = pick(rng, 0.3, 0.1, 0.03, 0.01)
    x = normal(rng, dtype, *dims(rng, 2, least=2))
    x.flat[0] = w * rng.uniform(-1, 1)

    def derivative(x):
        return (1 - np.tanh(x / w) ** 2) / w

    return elementwise(lambda x: np.tanh(x / w), derivative, x)


@right
def constant_array(rng, dtype):
    """All elements alike, as after constant initialisation."""
    x = np.full(dims(rng, 2), magnitude(rng), dtype)
    return elementwise(lambda x: x * x, lambda x: 2 * x, x)


@right
def zeros(rng, dtype):
    """All elements 0, with a gradient that is not."""
    x = np.zeros(dims(rng, 2), dtype)
    return elementwise(np.sin, np.cos, x)


@right
def zeros_beside(rng, dtype):
    """A bias of zeros beside weights of any magnitude."""
    n, c = dims(rng, 2)
    x, b = normal(rng, dtype, n, c, scale=magnitude(rng, 6)), np.zeros(c, dtype)
    return of(lambda x, b: x + b, lambda d, x, b: (d, d.sum(0)), x, b)


@right
def cancelling_backward(rng, dtype):
    """A backward that subtracts large numbers and keeps half its digits."""
    big = 1e6 if dtype == "float64" else 1e2
    x = normal(rng, dtype, *dims(rng, 2))
    return elementwise(np.sin, lambda x: (np.cos(x) + big) - big, x)


@right
def accumulated(rng, dtype):
    """A float32 sum with a large running total: forward itself loses digits."""
    x = normal(rng, dtype, int(rng.integers(50, 200)), offset=pick(rng, 0, 10))
    return of(
        lambda x: np.cumsum(np.exp(-x * x / 50))[-1:],
        lambda d, x: d * -x / 25 * np.exp(-x * x / 50),
        x,
    )

"""Smooth elementwise functions far out: saturated, steep, tiny, huge."""

import numpy as np

from minillm.gradcheck.awkward._family import (
    between,
    dims,
    elementwise,
    magnitude,
    normal,
    of,
    pick,
    right,
    sum_to,
)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _positive(rng, dtype, *shape, decades=1.0):
    """Positive values of one magnitude, spread over a few decades."""
    values = magnitude(rng) * 10.0 ** rng.uniform(-decades / 2, decades / 2, shape)
    return np.asarray(values).astype(dtype)


@right
def exp(rng, dtype):
    """From nearly linear to 1e26 (float32) or 1e260 (float64) within one array."""
    reach = pick(rng, 1e-6, 1.0, 20.0, 60.0, 60.0 if dtype == "float32" else 600.0)
    return elementwise(np.exp, np.exp, between(rng, dtype, -reach, reach, *dims(rng, 2)))


@right
def log(rng, dtype):
    """Positive values of any one magnitude."""
    return elementwise(np.log, lambda x: 1 / x, _positive(rng, dtype, *dims(rng, 2)))


@right(
    doubt=0.03,
    reasons=("noise", "curvature", "not finite"),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def log_wide(rng, dtype):
    """Values over many decades in one array: a step that suits the largest leaves the domain."""
    x = _positive(rng, dtype, *dims(rng, 2, least=2), decades=rng.uniform(2, 10))
    return elementwise(np.log, lambda x: 1 / x, x)


@right
def sqrt(rng, dtype):
    """Positive values, small ones near the singular point at 0."""
    x = _positive(rng, dtype, *dims(rng, 2), decades=rng.uniform(1, 4))
    return elementwise(np.sqrt, lambda x: 0.5 / np.sqrt(x), x)


@right
def power(rng, dtype):
    """x to a constant power, negative and fractional ones too, at any magnitude."""
    p = pick(rng, 2, 3, -1, -2.5, 0.5, 1.5, 0.1)
    return elementwise(
        lambda x: x**p, lambda x: p * x ** (p - 1), _positive(rng, dtype, *dims(rng, 1))
    )


@right
def power_of_both(rng, dtype):
    """a ** b with both differentiated."""
    shape = dims(rng, 2)
    a, b = between(rng, dtype, 0.1, 3, *shape), normal(rng, dtype, *shape, scale=2)

    def vjp(d, a, b):
        return d * b * a ** (b - 1), d * a**b * np.log(a)

    return of(lambda a, b: a**b, vjp, a, b)


@right
def reciprocal(rng, dtype):
    """1 / x on both sides of its pole, at any magnitude."""
    x = _positive(rng, dtype, *dims(rng, 2))
    x = x * np.asarray(rng.choice([-1, 1], x.shape)).astype(dtype)
    return elementwise(lambda x: 1 / x, lambda x: -1 / (x * x), x)


@right
def near_pole(rng, dtype):
    """1 / x where some x lie a thousand times nearer to the pole than the others."""
    x = between(rng, dtype, 0.5, 2, *dims(rng, 2, least=2))
    x.flat[0] *= pick(rng, 1e-1, 1e-2, 1e-3)
    return elementwise(lambda x: 1 / x, lambda x: -1 / (x * x), x)


@right
def divide(rng, dtype):
    """a / b, broadcast, with numerator and denominator of unlike sizes."""
    n, m = dims(rng, 2)
    a = normal(rng, dtype, n, m, scale=magnitude(rng))
    b = _positive(rng, dtype, m)

    def vjp(d, a, b):
        return d / b, sum_to(-d * a / (b * b), b.shape)

    return of(lambda a, b: a / b, vjp, a, b)


@right
def sigmoid(rng, dtype):
    """Partly saturated: some units at plus or minus 100 beside ordinary ones."""
    x = normal(rng, dtype, *dims(rng, 2, least=2), scale=pick(rng, 1.0, 4.0))
    x.flat[0] = pick(rng, -100.0, 100.0, -30.0, 30.0)
    return elementwise(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), x)


@right
def sigmoid_far_left(rng, dtype):
    """Only values of 1e-30 or so: small, but with all their digits."""
    x = between(rng, dtype, -80, -60, *dims(rng, 2))
    return elementwise(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), x)


@right
def tanh(rng, dtype):
    """Wide inputs, most of them saturated."""
    x = normal(rng, dtype, *dims(rng, 2, least=2), scale=pick(rng, 1.0, 5.0, 30.0))
    x.flat[0] = pick(rng, 0.0, 0.3, -1.0)
    return elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2, x)


@right
def softplus(rng, dtype):
    """log(1 + exp(x)), linear on one side and flat on the other."""
    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 0.01, 1.0, 10.0, 100.0))
    x.flat[0] = abs(x.flat[0])
    return elementwise(lambda x: np.logaddexp(0, x).astype(x.dtype), _sigmoid, x)


@right
def silu(rng, dtype):
    """x * sigmoid(x) with large x."""
    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 1e-4, 1.0, 10.0))

    def derivative(x):
        s = _sigmoid(x)
        return s * (1 + x * (1 - s))

    return elementwise(lambda x: x * _sigmoid(x), derivative, x)


@right
def gelu(rng, dtype):
    """The tanh form; flat to the left, where 1 + tanh cancels."""
    a = float(np.sqrt(2 / np.pi))

    def f(x):
        return 0.5 * x * (1 + np.tanh(a * (x + 0.044715 * x**3)))

    def derivative(x):
        t = np.tanh(a * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * a * (1 + 3 * 0.044715 * x * x)

    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 1e-4, 1.0, 3.0))
    x.flat[0] = abs(x.flat[0])
    return elementwise(f, derivative, x)


@right
def bell(rng, dtype):
    """exp(-x**2 / 2) out to its tails."""
    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 0.1, 1.0, 4.0))
    return elementwise(lambda x: np.exp(-x * x / 2), lambda x: -x * np.exp(-x * x / 2), x)


@right
def wave(rng, dtype):
    """sin that turns many times between two inputs."""
    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 1e-3, 1.0, 30.0))
    return elementwise(np.sin, np.cos, x)


@right
def small_differences(rng, dtype):
    """expm1 and log1p of tiny inputs, which keep their digits."""
    x = normal(rng, dtype, *dims(rng, 2), scale=pick(rng, 1e-8, 1e-5, 1e-2))
    if rng.random() < 0.5:
        return elementwise(np.expm1, np.exp, x)
    return elementwise(np.log1p, lambda x: 1 / (1 + x), x)


@right
def logit(rng, dtype):
    """log(p / (1 - p)) near both ends of (0, 1)."""
    p = between(rng, dtype, 0.05, 0.95, *dims(rng, 2))
    p.flat[0] = pick(rng, 1e-2, 1e-3, 0.99)
    return elementwise(lambda p: np.log(p / (1 - p)), lambda p: 1 / (p * (1 - p)), p)


@right
def log_add_exp(rng, dtype):
    """log(exp(a) + exp(b)), where one of both often counts for nothing."""
    shape, scale = dims(rng, 2), pick(rng, 1.0, 5.0, 100.0)
    a, b = normal(rng, dtype, *shape, scale=scale), normal(rng, dtype, *shape, scale=scale)
    a.flat[0] = b.flat[0]

    def vjp(d, a, b):
        return d * _sigmoid(a - b), d * _sigmoid(b - a)

    return of(np.logaddexp, vjp, a, b)


@right
def hypotenuse(rng, dtype):
    """sqrt(a**2 + b**2) with legs of unlike sizes, away from the cone's tip."""
    shape, scale = dims(rng, 2), magnitude(rng)
    a = normal(rng, dtype, *shape, scale=scale)
    b = between(rng, dtype, 0.5, 2, *shape) * pick(rng, 1.0, 0.1, 10.0) * scale
    b = b.astype(dtype)

    def vjp(d, a, b):
        h = np.hypot(a, b)
        return d * (a / h), d * (b / h)

    return of(np.hypot, vjp, a, b)


@right
def gaussian_nll(rng, dtype):
    """A normal density's negative logarithm by its mean and log-deviation: exp of one argument."""
    shape = dims(rng, 2)
    x, mean = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    spread = normal(rng, dtype, *shape, scale=pick(rng, 0.3, 2.0))

    def f(mean, spread, *, x):
        return (spread + 0.5 * ((x - mean) * np.exp(-spread)) ** 2).mean()

    def vjp(d, mean, spread, *, x):
        z = (x - mean) * np.exp(-spread)
        return -d * z * np.exp(-spread) / x.size, d * (1 - z * z) / x.size

    return of(f, vjp, mean, spread, x=x)

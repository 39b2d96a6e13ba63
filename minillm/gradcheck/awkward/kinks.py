"""Functions with kinks, at them and near them; subgradients as everybody chooses them."""

import numpy as np

from minillm.gradcheck.awkward._family import (
    Case,
    between,
    dims,
    elementwise,
    magnitude,
    normal,
    of,
    pick,
    right,
    tied,
)


def _near(rng, x, points, share=0.3):
    """Some elements of x put close to one of the points, or exactly on it."""
    scale = float(np.abs(x).max(initial=0)) or 1.0
    gap = pick(rng, 0.0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-2) * scale
    chosen = rng.random(x.shape) < share
    place = rng.choice(points, x.shape) + gap * rng.uniform(-1, 1, x.shape)
    return np.where(chosen, place, x).astype(x.dtype)


@right
def relu(rng, dtype):
    """Some inputs at 0 or within 1e-12 to 1e-2 of it; the gradient at 0 is 0."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng)), [0.0])
    x.flat[0] = abs(x.flat[0]) or 1.0
    return elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0, x)


@right(
    doubt=0.06,
    reasons=("no influence",),
    why="moved off 0 all of a few units may be dead",
)
def relu_of_zeros(rng, dtype):
    """Every input is 0, as after zero initialisation, and the gradient at 0 is 1."""
    return elementwise(lambda x: np.maximum(x, 0), lambda x: x >= 0, np.zeros(dims(rng, 2), dtype))


@right
def relu_of_many(rng, dtype):
    """A thousand inputs: in float32 some lie within any useful step of 0."""
    x = normal(rng, dtype, int(rng.integers(20, 40)), int(rng.integers(20, 40)))
    return elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0, x)


@right
def relu_layer(rng, dtype):
    """x @ w + b through ReLU, with dead units and biases of 0."""
    n, c, k = dims(rng, 3)
    x, w = normal(rng, dtype, n, c), normal(rng, dtype, c, k)
    b = np.zeros(k, dtype)
    b[1:] = rng.choice([0.0, -30.0], k - 1)  # the first unit may live
    b[0] = 20.0

    def vjp(d, x, w, b):
        d = d * (x @ w + b > 0)
        return d @ w.T, x.T @ d, d.sum(0)

    return of(lambda x, w, b: np.maximum(x @ w + b, 0), vjp, x, w, b)


@right
def leaky_relu(rng, dtype):
    """Slopes 0.01 and 1, inputs on and near the corner."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng)), [0.0])
    return elementwise(
        lambda x: np.where(x > 0, x, 0.01 * x),
        lambda x: np.where(x > 0, 1, 0.01).astype(x.dtype),
        x,
    )


@right
def prelu(rng, dtype):
    """The left slope is a parameter of its own."""
    n, c = dims(rng, 2)
    x = _near(rng, normal(rng, dtype, n, c), [0.0])
    x.flat[0] = -1.0
    slope = between(rng, dtype, 0.1, 0.5, 1)

    def vjp(d, x, slope):
        below = x <= 0
        return np.where(below, slope * d, d), (d * np.where(below, x, 0)).sum(keepdims=True)[0]

    return of(lambda x, slope: np.where(x > 0, x, slope * x), vjp, x, slope)


@right
def elu(rng, dtype):
    """Smooth at 0 but for its second derivative."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2)), [0.0])
    return elementwise(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.exp(np.minimum(x, 0)),
        x,
    )


@right
def absolute(rng, dtype):
    """|x| with its gradient 0 at 0."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng)), [0.0])
    return elementwise(np.abs, np.sign, x)


@right(
    doubt=0.03,
    reasons=("noise", "vanishes"),
    why="float32 tells no step between a kink 1e-6 away and rounding",
)
def norm_1(rng, dtype):
    """The sum of |x|, zeros among them."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng)), [0.0])
    return of(lambda x: np.abs(x).sum(), lambda d, x: d * np.sign(x), x)


@right
def total_variation(rng, dtype):
    """Sums of |x[i + 1] - x[i]| with equal neighbours."""
    x = tied(rng, dtype, dims(rng, 1, 12, 4)[0], values=3, scale=magnitude(rng))

    def vjp(d, x):
        side = d * np.sign(np.diff(x))
        return np.concatenate([[0], side]).astype(x.dtype) - np.concatenate([side, [0]]).astype(
            x.dtype
        )

    return of(lambda x: np.abs(np.diff(x)).sum(), vjp, x)


@right(
    doubt=0.02,
    reasons=("noise", "curvature"),
    why="float32 tells no step between a kink 1e-6 away and rounding",
)
def clip(rng, dtype):
    """Values on and near both bounds, and far outside of them."""
    scale = magnitude(rng)
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=scale), [-scale, scale])
    x.flat[0] = 0.5 * scale
    low, high = float(np.asarray(-scale, dtype)), float(np.asarray(scale, dtype))
    return elementwise(
        lambda x: np.clip(x, low, high), lambda x: ((x > low) & (x < high)).astype(x.dtype), x
    )


@right(
    doubt=0.03,
    reasons=("noise", "curvature"),
    why="float32 tells no step between a kink 1e-6 away and rounding",
)
def hard_sigmoid(rng, dtype):
    """Piecewise linear with two corners and two flat ends."""
    x = _near(rng, normal(rng, dtype, *dims(rng, 2), scale=2), [-3.0, 3.0])
    x.flat[0] = 0.1
    return elementwise(
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: (np.abs(x) < 3).astype(x.dtype) / 6,
        x,
    )


@right
def hinge(rng, dtype):
    """The multi-class hinge loss; some margins are met exactly."""
    n, k = dims(rng, 2, 6, 2)
    scores = _near(rng, normal(rng, dtype, n, k), [0.0, 1.0, 2.0], 0.4)
    labels = rng.integers(0, k, n)

    def margins(scores, labels):
        m = scores - scores[np.arange(len(labels)), labels][:, None] + 1
        m[np.arange(len(labels)), labels] = 0
        return m

    def f(scores, *, labels):
        return np.maximum(margins(scores, labels), 0).sum() / len(labels)

    def vjp(d, scores, *, labels):
        g = (margins(scores, labels) > 0).astype(scores.dtype)
        g[np.arange(len(labels)), labels] = -g.sum(1)
        return (d * g / len(labels)).astype(scores.dtype)

    scores[0, labels[0]] = -3  # one margin at least is missed
    return of(f, vjp, scores, labels=labels)


@right
def huber(rng, dtype):
    """Smooth L1: quadratic within 1, linear outside; some residuals exactly 1 or 0."""
    shape = dims(rng, 2)
    x, target = (
        _near(rng, normal(rng, dtype, *shape, scale=2), [-1.0, 0.0, 1.0]),
        np.zeros(shape, dtype),
    )
    x.flat[0] = 0.7

    def f(x, target):
        r = np.abs(x - target)
        return np.where(r < 1, 0.5 * r * r, r - 0.5).mean()

    def vjp(d, x, target):
        g = (d * np.clip(x - target, -1, 1) / x.size).astype(x.dtype)
        return g, -g

    return of(f, vjp, x, target)


@right(
    doubt=0.02,
    reasons=("noise", "curvature", "kink"),
    why="places within 1e-6 of one another set a step that rounding hides",
)
def interpolate(rng, dtype):
    """A table read between its knots: linear in the values, with corners in the place."""
    k = dims(rng, 1, 6, 2)[0]
    values = normal(rng, dtype, k, scale=magnitude(rng))
    place = _near(rng, between(rng, dtype, 0, k - 1, *dims(rng, 1)), [float(k // 2)])

    def cell(place, k):
        left = np.clip(np.floor(place).astype(int), 0, k - 2)
        return left, place - left.astype(place.dtype)

    def f(values, place):
        left, share = cell(place, len(values))
        return values[left] * (1 - share) + values[left + 1] * share

    def vjp(d, values, place):
        left, share = cell(place, len(values))
        dvalues = np.zeros_like(values)
        np.add.at(dvalues, left, d * (1 - share))
        np.add.at(dvalues, left + 1, d * share)
        return dvalues.astype(values.dtype), d * (values[left + 1] - values[left])

    return of(f, vjp, values, np.asarray(place, dtype))


@right
def relu_network(rng, dtype):
    """Three layers of ReLU without biases: a narrow net whose kinks cross everywhere."""
    n, c = dims(rng, 2, 5, 2)
    params = [normal(rng, dtype, c, c) + np.eye(c, dtype=dtype) for _ in range(3)]
    x = between(rng, dtype, 0.2, 2, n, c)

    def forward(x, params):
        saved = []
        for w in params:
            saved.append((x, x @ w))
            x = np.maximum(saved[-1][1], 0) + 0.1 * saved[-1][1]
        return x, (saved, params)

    def backward(d, cache):
        saved, params = cache
        grads = []
        for (x, z), w in zip(reversed(saved), reversed(params), strict=True):
            d = d * (z > 0) + 0.1 * d
            grads.append(x.T @ d)
            d = d @ w.T
        return d, grads[::-1]

    return Case.pair(forward, backward, x, params)


@right
def relu_behind_a_sum(rng, dtype):
    """One number out of many ReLUs at 0, weighted with both signs: their kinks hide each other."""
    n, c = dims(rng, 2, 5, 2)
    x, w = np.zeros((n, c), dtype), normal(rng, dtype, n, c)
    x.flat[0] = pick(rng, 0.0, 1.0)

    def vjp(d, x, w):
        return d * w * (x > 0), d * np.maximum(x, 0)

    return of(lambda x, w: (w * np.maximum(x, 0)).sum(), vjp, x, w)


@right(
    doubt=0.02,
    reasons=("no influence",),
    why="moved off 0 all of a few units may be dead",
)
def zero_initialised(rng, dtype):
    """A hidden layer whose weights are all 0 before a ReLU, and a readout into one number."""
    n, c, k = dims(rng, 3, 5, 2)
    x, w, v = normal(rng, dtype, n, c), np.zeros((c, k), dtype), normal(rng, dtype, k)

    def vjp(d, x, w, v):
        z = x @ w
        dz = d * (z > 0) * v
        return dz @ w.T, x.T @ dz, d * np.maximum(z, 0).sum(0)

    return of(lambda x, w, v: (np.maximum(x @ w, 0) @ v).sum(), vjp, x, w, v)

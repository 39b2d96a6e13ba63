"""Nests, several outputs, None, integers and booleans, scalars, empty arrays, layouts."""

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


@right(
    doubt=0.03,
    reasons=("noise", "curvature", "saturated"),
    why="saturated units leave a gradient that float32 hardly holds",
)
def nested_parameters(rng, dtype):
    """A two-layer net whose parameters are dicts in a list in a dict."""
    n, c, k = dims(rng, 3)
    widths = [(c, k), (k, 2)]
    params = {
        "layers": [
            {"weight": normal(rng, dtype, *size), "bias": normal(rng, dtype, size[1])}
            for size in widths
        ],
        "scale": normal(rng, dtype),
    }

    def forward(x, params):
        saved = []
        for layer in params["layers"]:
            y = np.tanh(x @ layer["weight"] + layer["bias"])
            saved.append((x, y))
            x = y
        return x * params["scale"], (saved, params)

    def backward(d, cache):
        saved, params = cache
        grads = {"layers": [], "scale": (d * saved[-1][1]).sum()}
        d = d * params["scale"]
        for (x, y), layer in zip(reversed(saved), reversed(params["layers"]), strict=True):
            d = d * (1 - y * y)
            grads["layers"].insert(0, {"weight": x.T @ d, "bias": d.sum(0)})
            d = d @ layer["weight"].T
        return d, grads

    return Case.pair(forward, backward, normal(rng, dtype, n, c), params)


@right
def tuple_argument(rng, dtype):
    """A state of two arrays as a tuple; its gradient is a tuple as well."""
    shape = dims(rng, 2)
    state = (normal(rng, dtype, *shape), normal(rng, dtype, *shape, scale=magnitude(rng, 3)))

    def backward(d, cache):
        h, c = cache
        return (d * c * np.cos(h), d * np.sin(h))

    return Case.pair(lambda state: (np.sin(state[0]) * state[1], state), backward, state)


@right
def several_outputs(rng, dtype):
    """A dict of three outputs of unlike shapes and sizes."""
    n, c = dims(rng, 2)
    x = normal(rng, dtype, n, c)

    def forward(x):
        return {"loss": (x**2).sum(), "rows": 1e4 * x.sum(1), "all": [1e-4 * np.exp(x)]}, x

    def backward(d, x):
        return 2 * d["loss"] * x + 1e4 * d["rows"][:, None] + 1e-4 * d["all"][0] * np.exp(x)

    return Case.pair(forward, backward, x)


@right
def output_of_integers(rng, dtype):
    """Labels beside values: integers have no gradient, their place holds None."""
    n, k = dims(rng, 2)
    x = normal(rng, dtype, n, k)

    def backward(d, x):
        values, labels = d
        assert labels is None
        return 2 * x * values

    return Case.pair(lambda x: ((x * x, x.argmax(-1)), x), backward, x)


@right
def absent_bias(rng, dtype):
    """None for a bias: None comes back."""
    n, c, k = dims(rng, 3)
    x, w = normal(rng, dtype, n, c), normal(rng, dtype, c, k)
    bias = normal(rng, dtype, k) if rng.random() < 0.5 else None

    def f(x, w, bias):
        return x @ w if bias is None else x @ w + bias

    def vjp(d, x, w, bias):
        return d @ w.T, x.T @ d, None if bias is None else d.sum(0)

    return of(f, vjp, x, w, bias)


@right
def absent_leaf(rng, dtype):
    """None within a nest, in the gradient's nest as well."""
    n, c = dims(rng, 2)
    params = {"gain": normal(rng, dtype, c), "bias": None, "rest": [None, normal(rng, dtype, c)]}

    def f(x, params):
        return x * params["gain"] + params["rest"][1]

    def vjp(d, x, params):
        grads = {"gain": (d * x).sum(0), "bias": None, "rest": [None, d.sum(0)]}
        return d * params["gain"], grads

    return of(f, vjp, normal(rng, dtype, n, c), params)


@right
def constants_between(rng, dtype):
    """An integer, a boolean array, a string and a Python number between the arrays."""
    n, c = dims(rng, 2)
    keep = rng.random((n, c)) < 0.7
    keep.flat[0] = True

    def f(x, power, keep, mode, factor, y):
        return factor * (keep * x**power) + (y if mode == "add" else -y)

    def vjp(d, x, power, keep, mode, factor, y):
        dx = d * keep * (factor * power * x ** (power - 1))
        dy = d if mode == "add" else -d
        return (dx, dy) if short else (dx, None, None, None, None, dy)

    short = bool(rng.random() < 0.5)  # gradients of the arrays alone, or one for each argument
    x, y = normal(rng, dtype, n, c), normal(rng, dtype, n, c)
    return of(f, vjp, x, int(rng.integers(1, 4)), keep, pick(rng, "add", "take"), 0.5, y)


@right
def gradients_by_name(rng, dtype):
    """Backward returns a dict, as many courses have it."""
    n, c, k = dims(rng, 3)
    x, w = normal(rng, dtype, n, c), normal(rng, dtype, c, k)

    def backward(d, cache):
        x, w = cache
        return {"dw": x.T @ d, "dx": d @ w.T}

    return Case.pair(lambda x, w: (x @ w, (x, w)), backward, x, w)


@right
def python_loss(rng, dtype):
    """The loss is a Python float, and so is what comes in from above."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng, 3))

    def backward(d, x):
        return (2 * float(d) * x).astype(x.dtype)

    return Case.pair(lambda x: (float((x.astype("float64") ** 2).sum()), x), backward, x)


@right(
    doubt=0.04,
    reasons=("noise", "curvature"),
    why="far out arctan is flat to float32",
)
def scalar_argument(rng, dtype):
    """A 0-d array, or NumPy's scalar, in and out."""
    x = np.asarray(rng.standard_normal() * magnitude(rng, 3)).astype(dtype)
    return elementwise(np.arctan, lambda x: 1 / (1 + x * x), x[()] if rng.random() < 0.5 else x)


@right
def single_element(rng, dtype):
    """Arrays of one element, of any rank and magnitude."""
    x = normal(rng, dtype, *[1] * int(rng.integers(1, 4)), scale=magnitude(rng))
    return elementwise(lambda x: x * x, lambda x: 2 * x, x)


@right
def empty(rng, dtype):
    """Arrays without elements, alone."""
    x = np.zeros(pick(rng, (0,), (0, 3), (3, 0)), dtype)
    return elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2, x)


@right
def empty_batch(rng, dtype):
    """No rows, but weights: these have zero gradients, which is right."""
    c, k = dims(rng, 2)
    x, w = np.zeros((0, c), dtype), normal(rng, dtype, c, k)
    return of(lambda x, w: x @ w, lambda d, x, w: (d @ w.T, x.T @ d), x, w)


@right
def empty_beside(rng, dtype):
    """One of several arguments is empty, and the output is not."""
    c = dims(rng, 1)[0]
    x, extra = normal(rng, dtype, 2, c), np.zeros((0, c), dtype)

    def vjp(d, x, extra):
        g = d * np.cos(np.concatenate([x, extra]))
        return g[:2], g[2:]

    return of(lambda x, extra: np.sin(np.concatenate([x, extra])), vjp, x, extra)


@right
def empty_sum(rng, dtype):
    """A loss of no terms, and one beside it that has some."""
    x, y = np.zeros((0, 4), dtype), normal(rng, dtype, 4)
    return of(
        lambda x, y: (x**2).sum() + (y**2).sum(), lambda d, x, y: (2 * d * x, 2 * d * y), x, y
    )


@right
def memory_layout(rng, dtype):
    """Transposed, strided, reversed and broadcast views, and Fortran's order."""
    n, c = dims(rng, 2)
    wide = normal(rng, dtype, 2 * c, 2 * n)
    x = pick(
        rng,
        wide[::2, ::2].T,
        np.asfortranarray(wide[:c, :n].T),
        wide[:c, :n].T[::-1],
        np.broadcast_to(wide[:c, 0], (n, c)),
    )
    w = normal(rng, dtype, c, c).T
    return of(
        lambda x, w: np.tanh(x) @ w,
        lambda d, x, w: ((d @ w.T) * (1 - np.tanh(x) ** 2), np.tanh(x).T @ d),
        x,
        w,
    )


@right
def read_only(rng, dtype):
    """Inputs that cannot be written to, gradients that are views."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng))
    x.flags.writeable = False
    return of(lambda x: x.T, lambda d, x: d.T, x)


@right
def same_array_twice(rng, dtype):
    """The very same array for two arguments: each has a gradient of its own."""
    x = normal(rng, dtype, *dims(rng, 2))
    return of(lambda a, b: a * np.exp(b), lambda d, a, b: (d * np.exp(b), d * a * np.exp(b)), x, x)


@right
def residual(rng, dtype):
    """x is used twice: as it is, and through a branch of another size."""
    n, c = dims(rng, 2)
    x, w = normal(rng, dtype, n, c), normal(rng, dtype, c, c, scale=magnitude(rng, 3))
    return of(
        lambda x, w: x + np.tanh(x) @ w,
        lambda d, x, w: (d + (d @ w.T) * (1 - np.tanh(x) ** 2), np.tanh(x).T @ d),
        x,
        w,
    )


@right
def mixed_precision(rng, dtype):
    """A float32 weight beside float64 values: each gradient has its own leaf's dtype."""
    n, c = dims(rng, 2)
    x, w = normal(rng, "float64", n, c), normal(rng, "float32", c)
    return of(lambda x, w: x * w, lambda d, x, w: (d * w, (d * x).sum(0).astype("float32")), x, w)


@right
def keyword_array(rng, dtype):
    """Arrays by keyword are constants, even where they are floats."""
    n, c = dims(rng, 2)
    x, weights = normal(rng, dtype, n, c), normal(rng, dtype, n, 1, scale=magnitude(rng))
    return of(
        lambda x, *, weights: (weights * x**2).sum(0),
        lambda d, x, *, weights: 2 * d * weights * x,
        x,
        weights=weights,
    )

"""Linear algebra, convolutions and recurrences."""

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
    sum_to,
)


def _regular(rng, dtype, n, *batch):
    """Well-conditioned square matrices."""
    return (normal(rng, dtype, *batch, n, n) * 0.3 + np.eye(n) * 1.5).astype(dtype)


def _flip(a):
    return np.swapaxes(a, -1, -2)


@right
def linear(rng, dtype):
    """x @ w + b, each of its own magnitude."""
    n, c, k = dims(rng, 3)
    x, w = normal(rng, dtype, n, c, scale=magnitude(rng, 4)), normal(rng, dtype, c, k)
    b = normal(rng, dtype, k, scale=magnitude(rng, 3))
    return of(lambda x, w, b: x @ w + b, lambda d, x, w, b: (d @ w.T, x.T @ d, d.sum(0)), x, w, b)


@right
def broadcast_matmul(rng, dtype):
    """A batch of matrices times one matrix, and the other way round."""
    b, n, c, k = dims(rng, 4, 4)
    x, w = normal(rng, dtype, b, n, c), normal(rng, dtype, *pick(rng, (), (1,), (b,)), c, k)

    def vjp(d, x, w):
        return d @ _flip(w), sum_to(_flip(x) @ d, w.shape)

    return of(lambda x, w: x @ w, vjp, x, w)


@right
def bilinear(rng, dtype):
    """x A y summed into one number."""
    n, m = dims(rng, 2)
    scale = magnitude(rng)
    x, a, y = normal(rng, dtype, n, scale=scale), normal(rng, dtype, n, m), normal(rng, dtype, m)
    return of(
        lambda x, a, y: x @ a @ y,
        lambda d, x, a, y: (d * (a @ y), d * np.outer(x, y), d * (x @ a)),
        x,
        a,
        y,
    )


@right
def einsum(rng, dtype):
    """Three factors contracted over two axes."""
    i, j, k, m = dims(rng, 4, 4)
    a, b, c = (normal(rng, dtype, *shape) for shape in ((i, j), (j, k), (k, m)))

    def vjp(d, a, b, c):
        return (
            np.einsum("im,jk,km->ij", d, b, c),
            np.einsum("im,ij,km->jk", d, a, c),
            np.einsum("im,ij,jk->km", d, a, b),
        )

    return of(lambda a, b, c: np.einsum("ij,jk,km->im", a, b, c), vjp, a, b, c)


@right
def determinant(rng, dtype):
    """A batch of determinants, of any scale."""
    n = dims(rng, 1, 4)[0]
    a = _regular(rng, dtype, n, *dims(rng, 1, 3)) * np.asarray(pick(rng, 1, 1e-2, 1e2), dtype)

    def f(a):
        return np.linalg.det(a)

    return of(f, lambda d, a: d[:, None, None] * f(a)[:, None, None] * _flip(np.linalg.inv(a)), a)


@right
def log_determinant(rng, dtype):
    """The logarithm of |det|, which no scale can overflow."""
    n = dims(rng, 1, 4)[0]
    a = _regular(rng, dtype, n) * np.asarray(magnitude(rng), dtype)
    return of(
        lambda a: np.linalg.slogdet(a)[1], lambda d, a: d * _flip(np.linalg.inv(a)), a.astype(dtype)
    )


@right
def inverse(rng, dtype):
    """The inverse of a matrix, well conditioned or with one value a hundred times smaller."""
    n = dims(rng, 1, 4, 2)[0]
    a = _regular(rng, dtype, n) * np.asarray(magnitude(rng, 4), dtype)
    a[0] *= np.asarray(pick(rng, 1, 0.1, 0.01), dtype)

    def vjp(d, a):
        inv = np.linalg.inv(a)
        return -_flip(inv) @ d @ _flip(inv)

    return of(np.linalg.inv, vjp, a)


@right
def solve(rng, dtype):
    """The solution of a linear system by its matrix and its right side."""
    n, k = dims(rng, 2, 4)
    a, b = _regular(rng, dtype, n), normal(rng, dtype, n, k, scale=magnitude(rng))

    def vjp(d, a, b):
        db = np.linalg.solve(a.T, d)
        return -db @ np.linalg.solve(a, b).T, db

    return of(np.linalg.solve, vjp, a, b)


@right
def ridge(rng, dtype):
    """Least squares with a penalty: the best weights by data and penalty."""
    n, c = dims(rng, 2, 5, 2)
    x, y, penalty = normal(rng, dtype, n, c), normal(rng, dtype, n), between(rng, dtype, 0.2, 2)

    def parts(x, y, penalty):
        m = x.T @ x + penalty * np.eye(x.shape[1], dtype=x.dtype)
        return m, np.linalg.solve(m, x.T @ y)

    def vjp(d, x, y, penalty):
        m, w = parts(x, y, penalty)
        u = np.linalg.solve(m, d)
        return np.outer(y - x @ w, u) - np.outer(x @ u, w), x @ u, -(u @ w)

    return of(lambda *a: parts(*a)[1], vjp, x, y, penalty)


@right
def matrix_power(rng, dtype):
    """The fifth power: a sum over all places of the factor."""
    a = (_regular(rng, dtype, dims(rng, 1, 4)[0]) * pick(rng, 0.1, 1, 10)).astype(dtype)

    def vjp(d, a):
        powers = [np.linalg.matrix_power(a, k).T for k in range(5)]
        return sum(powers[k] @ d @ powers[4 - k] for k in range(5))

    return of(lambda a: np.linalg.matrix_power(a, 5), vjp, a)


@right
def gram(rng, dtype):
    """x times its own transpose: x is used twice."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng))
    return of(lambda x: x @ x.T, lambda d, x: (d + d.T) @ x, x)


@right
def trace(rng, dtype):
    """The trace of a product, nothing off the diagonal."""
    n, m = dims(rng, 2)
    a, b = normal(rng, dtype, n, m, scale=magnitude(rng)), normal(rng, dtype, m, n)
    return of(lambda a, b: np.trace(a @ b), lambda d, a, b: (d * b.T, d * a.T), a, b)


@right
def distances(rng, dtype):
    """Squared distances between all pairs of rows."""
    n, m, c = dims(rng, 3, 4)
    scale = magnitude(rng)
    a, b = normal(rng, dtype, n, c, scale=scale), normal(rng, dtype, m, c, scale=scale)

    def vjp(d, a, b):
        gap = 2 * d[..., None] * (a[:, None] - b)
        return gap.sum(1), -gap.sum(0)

    return of(lambda a, b: ((a[:, None] - b) ** 2).sum(-1), vjp, a, b)


@right
def conv1d(rng, dtype):
    """A sequence and a kernel, stride one or two, padded or not."""
    b, c, o, k = dims(rng, 4, 3)
    t, stride, pad = k + int(rng.integers(0, 5)), pick(rng, 1, min(k, 2)), pick(rng, 0, 1)
    x, w = normal(rng, dtype, b, t, c, scale=magnitude(rng)), normal(rng, dtype, k, c, o)

    def windows(x):
        wide = np.pad(x, ((0, 0), (pad, pad), (0, 0)))
        places = np.arange(0, wide.shape[1] - k + 1, stride)[:, None] + np.arange(k)
        return wide, places

    def f(x, w):
        wide, places = windows(x)
        return np.einsum("btkc,kco->bto", wide[:, places], w)

    def vjp(d, x, w):
        wide, places = windows(x)
        dwide = np.zeros_like(wide)
        for start, window in zip(
            places[:, 0], np.moveaxis(np.einsum("bto,kco->btkc", d, w), 1, 0), strict=True
        ):
            dwide[:, start : start + k] += window
        dw = np.einsum("btkc,bto->kco", wide[:, places], d)
        return dwide[:, pad : pad + x.shape[1]], dw

    return of(f, vjp, x, w)


@right(
    doubt=0.15,
    reasons=("noise", "curvature", "saturated"),
    why="after several saturated or contracting steps nearly nothing of the first state is left",
)
def rnn(rng, dtype):
    """A tanh recurrence over up to eight steps, weights from vanishing to exploding."""
    b, t, c, k = dims(rng, 4, 3)
    t += int(rng.integers(0, 6))
    x, h = normal(rng, dtype, b, t, c), normal(rng, dtype, b, k)
    params = {
        "weight_x": normal(rng, dtype, c, k),
        "weight_h": normal(rng, dtype, k, k, scale=pick(rng, 0.1, 1.0, 2.0)),
        "bias": normal(rng, dtype, k),
    }

    def forward(x, h, params):
        states = [h]
        for step in range(x.shape[1]):
            z = x[:, step] @ params["weight_x"] + states[-1] @ params["weight_h"] + params["bias"]
            states.append(np.tanh(z))
        return (np.stack(states[1:], 1), states[-1]), (x, states, params)

    def backward(d, cache):
        x, states, params = cache
        dy, dh = d
        dx = np.empty_like(x)
        grads = {key: np.zeros_like(value) for key, value in params.items()}
        for step in reversed(range(x.shape[1])):
            dz = (dh + dy[:, step]) * (1 - states[step + 1] ** 2)
            dx[:, step] = dz @ params["weight_x"].T
            grads["weight_x"] += x[:, step].T @ dz
            grads["weight_h"] += states[step].T @ dz
            grads["bias"] += dz.sum(0)
            dh = dz @ params["weight_h"].T
        return dx, dh, grads

    return Case.pair(forward, backward, x, h, params)


@right
def recurrence(rng, dtype):
    """h = a h + x over thirty steps: the gradient of the first x is a to the thirtieth."""
    a, x = between(rng, dtype, 0.3, 1.3), normal(rng, dtype, 30)

    def forward(a, x):
        states = [np.zeros_like(a)]
        for value in x:
            states.append(a * states[-1] + value)
        return states[-1], (a, states)

    def backward(d, cache):
        a, states = cache
        dx, da = np.empty(30, a.dtype), np.zeros_like(a)
        for step in reversed(range(30)):
            dx[step] = d
            da = da + d * states[step]
            d = d * a
        return da, dx

    return Case.pair(forward, backward, a, x)


@right
def newton(rng, dtype):
    """A square root by five steps of Newton's method, differentiated through the steps."""
    x = (between(rng, dtype, 0.5, 2, *dims(rng, 1)) * pick(rng, 1, 0.1, 10)).astype(dtype)

    def forward(x):
        guesses = [np.ones_like(x)]
        for _ in range(5):
            guesses.append(0.5 * (guesses[-1] + x / guesses[-1]))
        return guesses[-1], (x, guesses)

    def backward(d, cache):
        x, guesses = cache
        dx = np.zeros_like(x)
        for guess in reversed(guesses[:-1]):
            dx = dx + 0.5 * d / guess
            d = 0.5 * d * (1 - x / guess**2)
        return dx

    return Case.pair(forward, backward, x)

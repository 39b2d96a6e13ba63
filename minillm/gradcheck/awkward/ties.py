"""Extremes and orders, with ties: maxima, medians, sorting."""

import numpy as np

from minillm.gradcheck.awkward._family import dims, magnitude, normal, of, pick, right, tied


@right
def norm_max(rng, dtype):
    """The largest |x|; where several are, they share."""
    x = tied(rng, dtype, *dims(rng, 2), scale=magnitude(rng))
    x = (x * rng.choice([-1.0, 1.0], x.shape)).astype(dtype)

    def vjp(d, x):
        top = np.abs(x) == np.abs(x).max()
        return (d * np.sign(x) * top / top.sum()).astype(x.dtype)

    return of(lambda x: np.abs(x).max(), vjp, x)


@right(
    doubt=0.06,
    reasons=("no influence", "noise", "curvature", "kink"),
    why="of a few pairs moved apart all may choose the same side",
)
def maximum(rng, dtype):
    """The larger of two arrays, often equal: the first one takes the gradient."""
    shape = dims(rng, 2)
    a, b = tied(rng, dtype, *shape, values=3), tied(rng, dtype, *shape, values=3)
    a.flat[0], b.flat[-1] = 9, 9
    if a.size == 1:
        b = a.copy()
    return of(np.maximum, lambda d, a, b: (d * (a >= b), d * (a < b)), a, b)


@right
def max_over_axis(rng, dtype):
    """Ties share the gradient evenly, or the first takes all."""
    x = tied(rng, dtype, *dims(rng, 2), values=pick(rng, 1, 3, 50), scale=magnitude(rng))
    first = rng.random() < 0.5

    def vjp(d, x):
        top = x == x.max(-1, keepdims=True)
        if first:
            top = top & (np.cumsum(top, -1) == 1)
        return (d[..., None] * top / top.sum(-1, keepdims=True)).astype(x.dtype)

    return of(lambda x: x.max(-1), vjp, x)


@right
def min_over_all(rng, dtype):
    """The least of all, ties or not."""
    x = tied(rng, dtype, *dims(rng, 2), values=pick(rng, 2, 50), scale=magnitude(rng))

    def vjp(d, x):
        low = x == x.min()
        return (d * low / low.sum()).astype(x.dtype)

    return of(lambda x: x.min(), vjp, x)


@right(
    doubt=0.02,
    reasons=("noise", "curvature", "kink"),
    why="float32 tells few steps between 2 % of a value and rounding",
)
def max_pool(rng, dtype):
    """Windows of two over time; ties inside the windows, the first takes all."""
    n, t, c = dims(rng, 3)
    x = tied(rng, dtype, n, 2 * t, c, values=pick(rng, 2, 4, 50))

    def vjp(d, x):
        first = (x[:, 0::2] >= x[:, 1::2]).astype(x.dtype)
        dx = np.empty_like(x)
        dx[:, 0::2], dx[:, 1::2] = d * first, d * (1 - first)
        return dx

    return of(lambda x: np.maximum(x[:, 0::2], x[:, 1::2]), vjp, x)


@right
def median(rng, dtype):
    """The middle of each row, or the mean of the two middle ones, with and without ties."""
    n, k = dims(rng, 2, 7)
    ties = rng.random() < 0.5
    x = tied(rng, dtype, n, k) if ties else normal(rng, dtype, n, k, scale=magnitude(rng))

    def vjp(d, x):
        order, k = np.argsort(x, -1, kind="stable"), x.shape[-1]
        middle = order[:, [(k - 1) // 2, k // 2]]
        dx = np.zeros_like(x)
        np.add.at(dx, (np.arange(len(x))[:, None], middle), d[:, None] / 2)
        return dx

    return of(lambda x: np.median(x, -1).astype(x.dtype), vjp, x)


@right
def sort(rng, dtype):
    """Sorted rows; the gradient goes back where its value came from."""
    ties = rng.random() < 0.5
    shape = dims(rng, 2)
    x = tied(rng, dtype, *shape) if ties else normal(rng, dtype, *shape, scale=magnitude(rng))

    def vjp(d, x):
        dx = np.empty_like(x)
        np.put_along_axis(dx, np.argsort(x, -1, kind="stable"), d, -1)
        return dx

    return of(lambda x: np.sort(x, -1), vjp, x)


@right(
    doubt=0.03,
    reasons=("noise", "curvature", "kink"),
    why="float32 tells few steps between 2 % of a value and rounding",
)
def largest_two(rng, dtype):
    """The sum of each row's two largest values."""
    n, k = dims(rng, 2, 6, 2)
    x = tied(rng, dtype, n, k, values=pick(rng, 2, 50))

    def vjp(d, x):
        dx = np.zeros_like(x)
        np.put_along_axis(dx, np.argsort(x, -1, kind="stable")[:, -2:], d[:, None], -1)
        return dx

    return of(lambda x: np.sort(x, -1)[:, -2:].sum(-1), vjp, x)

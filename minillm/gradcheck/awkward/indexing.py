"""Values moved, picked, repeated and added up."""

import numpy as np

from minillm.gradcheck.awkward._family import Case, dims, magnitude, normal, of, pick, right, sum_to


@right
def embedding(rng, dtype):
    """Repeated ids, and rows that nobody asks for."""
    v, c = dims(rng, 2, 6)
    weight, ids = normal(rng, dtype, v, c, scale=magnitude(rng)), rng.integers(0, v, dims(rng, 2))

    def vjp(d, weight, *, ids):
        grad = np.zeros_like(weight)
        np.add.at(grad, ids, d)
        return grad

    return of(lambda weight, *, ids: weight[ids], vjp, weight, ids=ids)


@right
def embedding_positional(rng, dtype):
    """The ids come as a positional argument, whose gradient is None."""
    v, c = dims(rng, 2, 6)
    weight, ids = normal(rng, dtype, v, c), rng.integers(0, v, dims(rng, 1))

    def backward(d, cache):
        weight, ids = cache
        grad = np.zeros_like(weight)
        np.add.at(grad, ids, d)
        return None, grad

    return Case.pair(lambda ids, weight: (weight[ids], (weight, ids)), backward, ids, weight)


@right
def tied_embedding(rng, dtype):
    """One matrix reads the ids in and writes the logits out."""
    v, c, n = dims(rng, 3)
    weight, ids = normal(rng, dtype, v, c), rng.integers(0, v, n)

    def vjp(d, weight, *, ids):
        grad = d.T @ np.tanh(weight[ids])
        np.add.at(grad, ids, (d @ weight) * (1 - np.tanh(weight[ids]) ** 2))
        return grad

    return of(lambda weight, *, ids: np.tanh(weight[ids]) @ weight.T, vjp, weight, ids=ids)


@right
def gather(rng, dtype):
    """One value a row, or several, the same one at times."""
    n, k, m = dims(rng, 3)
    x, index = normal(rng, dtype, n, k, scale=magnitude(rng)), rng.integers(0, k, (n, m))

    def vjp(d, x, *, index):
        dx = np.zeros_like(x)
        np.add.at(dx, (np.arange(n)[:, None], index), d)
        return dx

    return of(lambda x, *, index: np.take_along_axis(x, index, -1), vjp, x, index=index)


@right
def scatter(rng, dtype):
    """Values added up by group; empty groups stay 0."""
    n, c, groups = dims(rng, 3)
    x, index = normal(rng, dtype, n, c, scale=magnitude(rng)), rng.integers(0, groups, n)

    def f(x, *, index):
        out = np.zeros((groups, c), x.dtype)
        np.add.at(out, index, x)
        return out

    return of(f, lambda d, x, *, index: d[index], x, index=index)


@right
def overwrite(rng, dtype):
    """Rows of x replaced by those of y: x has no part in them."""
    n, c = dims(rng, 2, least=2)
    rows = rng.permutation(n)[: n // 2]
    x, y = normal(rng, dtype, n, c), normal(rng, dtype, len(rows), c, scale=magnitude(rng))

    def f(x, y):
        out = x.copy()
        out[rows] = y
        return out

    def vjp(d, x, y):
        dx = d.copy()
        dx[rows] = 0
        return dx, d[rows]

    return of(f, vjp, x, y)


@right
def select(rng, dtype):
    """np.where by a boolean mask, both branches differentiated."""
    shape = dims(rng, 2, least=2)
    mask = rng.random(shape) < 0.5
    mask.flat[:2] = True, False
    a, b = normal(rng, dtype, *shape), normal(rng, dtype, *shape, scale=magnitude(rng, 4))

    def vjp(d, a, b, *, mask):
        return np.where(mask, d, 0), np.where(mask, 0, d)

    return of(lambda a, b, *, mask: np.where(mask, a, b), vjp, a, b, mask=mask)


@right
def cumulative_sum(rng, dtype):
    """Running sums; the gradient runs the other way."""
    x = normal(rng, dtype, *dims(rng, 2, 8), scale=magnitude(rng))
    return of(lambda x: np.cumsum(x, -1), lambda d, x: np.cumsum(d[:, ::-1], -1)[:, ::-1], x)


@right
def cumulative_product(rng, dtype):
    """Running products, also through a factor of exactly 0."""
    n = dims(rng, 1, 6)[0]
    x = normal(rng, dtype, n, scale=pick(rng, 0.1, 1.0, 3.0))
    x[-1] = pick(rng, 0.0, float(x[-1]))

    def vjp(d, x):
        dx = np.zeros_like(x)
        for i in range(len(x)):
            others = x.copy()
            others[i] = 1
            dx[i] = (d * np.cumprod(others))[i:].sum()
        return dx

    return of(np.cumprod, vjp, x)


@right
def product(rng, dtype):
    """A product of rows, one factor of which may be 0: its gradient is the others' product."""
    n, c = dims(rng, 2, 5, 2)
    x = normal(rng, dtype, n, c)
    x[0, 0] = pick(rng, 0.0, 1.0)

    def vjp(d, x):
        dx = np.empty_like(x)
        for i in range(x.shape[1]):
            dx[:, i] = d * np.delete(x, i, 1).prod(1)
        return dx

    return of(lambda x: x.prod(1), vjp, x)


@right(
    doubt=0.04,
    reasons=("noise",),
    why="in float32 the rounding of the large parts hides a part a thousand times smaller",
)
def join(rng, dtype):
    """Arrays laid end to end, of magnitudes of their own, in a list."""
    n = dims(rng, 1)[0]
    parts = [normal(rng, dtype, n, size, scale=magnitude(rng)) for size in dims(rng, 3)]
    cuts = np.cumsum([part.shape[1] for part in parts])[:-1]
    return of(
        lambda parts: np.tanh(np.concatenate(parts, 1)),
        lambda d, parts: [
            piece * (1 - np.tanh(part) ** 2)
            for piece, part in zip(np.split(d, cuts, 1), parts, strict=True)
        ],
        [np.asarray(np.clip(part, -3, 3)) for part in parts],
    )


@right
def rearrange(rng, dtype):
    """Transposed, flipped, rolled: every value once, elsewhere."""
    x = normal(rng, dtype, *dims(rng, 3, 4), scale=magnitude(rng))

    def vjp(d, x):
        return np.roll(d, -1, 1)[::-1].transpose(1, 2, 0)

    return of(lambda x: np.roll(x.transpose(2, 0, 1)[::-1], 1, 1), vjp, x)


@right
def slices(rng, dtype):
    """Every other value, and the rest unused."""
    n, c = dims(rng, 2, 7)
    x = normal(rng, dtype, n, c, scale=magnitude(rng))

    def vjp(d, x):
        dx = np.zeros_like(x)
        dx[::2, ::-3] = d
        return dx

    return of(lambda x: x[::2, ::-3], vjp, x)


@right
def pad(rng, dtype):
    """Zeros around, or the edges repeated."""
    n, c = dims(rng, 2)
    x, edge = normal(rng, dtype, n, c, scale=magnitude(rng)), bool(rng.random() < 0.5)

    def vjp(d, x):
        dx = d[:, 2:-1].copy()
        if edge:
            dx[:, 0] += d[:, :2].sum(1)
            dx[:, -1] += d[:, -1]
        return dx

    return of(lambda x: np.pad(x, ((0, 0), (2, 1)), "edge" if edge else "constant"), vjp, x)


@right
def repeat(rng, dtype):
    """Each value several times, and tiled."""
    x = normal(rng, dtype, dims(rng, 1)[0], scale=magnitude(rng))
    return of(
        lambda x: np.tile(np.repeat(x, 3), 2),
        lambda d, x: d.reshape(2, len(x), 3).sum((0, 2)),
        x,
    )


@right
def broadcast(rng, dtype):
    """Sums and products of arrays of unlike rank: gradients are summed back."""
    n, t, c = dims(rng, 3)
    a, b = normal(rng, dtype, n, 1, c), normal(rng, dtype, t, 1, scale=magnitude(rng, 4))
    scalar = normal(rng, dtype)

    def vjp(d, a, b, scalar):
        full = d * scalar
        return sum_to(full * b, a.shape), sum_to(full * a, b.shape), (d * a * b).sum()

    return of(lambda a, b, scalar: a * b * scalar, vjp, a, b, scalar)


@right
def means(rng, dtype):
    """The mean over one axis and the sum over all, as two outputs."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng), offset=pick(rng, 0, 1))

    def backward(d, shape):
        dmean, dsum = d
        return np.broadcast_to(dmean / shape[0] + dsum, shape).copy()

    return Case.pair(lambda x: ((x.mean(0), x.sum()), x.shape), backward, x)


@right
def triangle(rng, dtype):
    """The lower triangle of a product; what is above plays no part."""
    n = dims(rng, 1, 5, 2)[0]
    a, b = normal(rng, dtype, n, n), normal(rng, dtype, n, n, scale=magnitude(rng, 4))

    def vjp(d, a, b):
        d = np.tril(d)
        return d @ b.T, a.T @ d

    return of(lambda a, b: np.tril(a @ b), vjp, a, b)

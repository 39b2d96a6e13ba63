"""Generators that advance: each call finds them where the first one did."""

import numpy as np

from minillm.gradcheck.awkward._family import Case, between, dims, magnitude, normal, right


def _generator(rng):
    return np.random.default_rng(int(rng.integers(2**31)))


@right
def dropout(rng, dtype):
    """A mask drawn in forward from a generator given by keyword."""
    x, p = normal(rng, dtype, *dims(rng, 2, 6, 3), scale=magnitude(rng)), float(rng.uniform(0, 0.6))

    def forward(x, *, rng):
        mask = ((rng.random(x.shape) >= p) / (1 - p)).astype(x.dtype)
        return x * mask, mask

    return Case.pair(forward, lambda d, mask: d * mask, x, rng=_generator(rng))


@right
def dropout_of_all(rng, dtype):
    """Everything dropped: the output is 0 and so is the gradient."""
    x = normal(rng, dtype, *dims(rng, 2))

    def forward(x, *, rng):
        mask = (rng.random(x.shape) >= 2).astype(x.dtype)
        return x * mask, mask

    zero = {"x": ("no influence",)}
    return Case.pair(forward, lambda d, mask: d * mask, x, rng=_generator(rng), zero=zero)


@right
def dropped_twice(rng, dtype):
    """Two masks from one generator, one after the other."""
    n, c = dims(rng, 2, 6, 3)
    x, w = normal(rng, dtype, n, c), normal(rng, dtype, c, c)

    def forward(x, w, *, rng):
        first = (rng.random(x.shape) < 0.8).astype(x.dtype)
        second = (rng.random(w.shape) < 0.8).astype(x.dtype)
        return (x * first) @ (w * second), (x, w, first, second)

    def backward(d, cache):
        x, w, first, second = cache
        return (d @ (w * second).T) * first, ((x * first).T @ d) * second

    return Case.pair(forward, backward, x, w, rng=_generator(rng))


@right
def reparametrised(rng, dtype):
    """A sample mean + exp(s) * noise, differentiated by both."""
    shape = dims(rng, 2)
    mean, s = normal(rng, dtype, *shape), normal(rng, dtype, *shape)

    def forward(mean, s, *, rng):
        part = np.exp(s) * rng.standard_normal(mean.shape).astype(mean.dtype)
        return mean + part, part

    return Case.pair(forward, lambda d, part: (d, d * part), mean, s, rng=_generator(rng))


@right
def gumbel_softmax(rng, dtype):
    """A soft choice with noise added to the logits."""
    n, k = dims(rng, 2, 5, 2)
    x = normal(rng, dtype, n, k)

    def forward(x, *, rng):
        z = x + rng.gumbel(size=x.shape).astype(x.dtype)
        e = np.exp(z - z.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return y, y

    def backward(d, y):
        return y * (d - (d * y).sum(-1, keepdims=True))

    return Case.pair(forward, backward, x, rng=_generator(rng))


@right
def legacy_generator(rng, dtype):
    """NumPy's old RandomState, and noise that multiplies."""
    x = normal(rng, dtype, *dims(rng, 2), scale=magnitude(rng))

    def forward(x, *, state):
        noise = (1 + 0.1 * state.randn(*x.shape)).astype(x.dtype)
        return x * noise, noise

    state = np.random.RandomState(int(rng.integers(2**31)))
    return Case.pair(forward, lambda d, noise: d * noise, x, state=state)


@right
def random_projection(rng, dtype):
    """A matrix drawn anew in each call, from a seed."""
    x = normal(rng, dtype, *dims(rng, 2))

    def forward(x, *, seed):
        w = np.random.default_rng(seed).standard_normal((x.shape[1], 3)).astype(x.dtype)
        return x @ w, w

    return Case.pair(forward, lambda d, w: d @ w.T, x, seed=int(rng.integers(1000)))


@right
def negative_samples(rng, dtype):
    """A loss over rows drawn with repetition from a table."""
    v, c = dims(rng, 2, 6, 2)
    table, x = normal(rng, dtype, v, c), normal(rng, dtype, c)

    def forward(table, x, *, rng):
        ids = rng.integers(0, v, 4)
        return np.logaddexp(0, table[ids] @ x).astype(x.dtype), (table, x, ids)

    def backward(d, cache):
        table, x, ids = cache
        d = d / (1 + np.exp(-(table[ids] @ x)))
        grad = np.zeros_like(table)
        np.add.at(grad, ids, np.outer(d, x).astype(table.dtype))
        return grad, d @ table[ids]

    return Case.pair(forward, backward, table, x, rng=_generator(rng))


@right
def stochastic_depth(rng, dtype):
    """A whole branch is left out at times; its parameter then has no influence."""
    n, c = dims(rng, 2)
    x, gain = normal(rng, dtype, n, c), between(rng, dtype, 0.5, 2, c)
    generator = _generator(rng)
    kept = float(_peek(generator) >= 0.5)

    def forward(x, gain, *, rng):
        on = x.dtype.type(rng.random() >= 0.5)
        return x + on * gain * np.tanh(x), (x, gain, on)

    def backward(d, cache):
        x, gain, on = cache
        t = np.tanh(x)
        return d * (1 + on * gain * (1 - t * t)), (d * on * t).sum(0)

    zero = {} if kept else {"gain": ("no influence",)}
    return Case.pair(forward, backward, x, gain, rng=generator, zero=zero)


def _peek(generator):
    """What a generator gives next, without advancing it."""
    state = generator.bit_generator.state
    value = generator.random()
    generator.bit_generator.state = state
    return value

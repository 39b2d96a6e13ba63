"""Softmax and what is built on it: large logits, masked rows, cross entropies, attention."""

import numpy as np

from minillm.gradcheck.awkward._family import between, dims, normal, of, pick, right


def _softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _dsoftmax(d, y, axis=-1):
    return y * (d - (d * y).sum(axis, keepdims=True))


def _logits(rng, dtype, n, k, scales=(1.0, 10.0, 1e3, 1e4)):
    """Logits of any size; in the first row two of them compete for the largest."""
    x = normal(rng, dtype, n, k, scale=pick(rng, *scales))
    x[0, :2] = x[0].max() + between(rng, dtype, 0, 1, min(k, 2))
    return x


@right(
    doubt=0.03,
    reasons=("noise", "no influence", "vanishes"),
    why="float32 steps of logits of 1e4 leave the scale on which two of them compete",
)
def softmax(rng, dtype):
    """Logits up to 1e4, of which two compete."""
    n, k = dims(rng, 2, least=2)
    axis = pick(rng, 0, 1)
    x = _logits(rng, dtype, n, k)
    x = x if axis == 1 else np.ascontiguousarray(x.T)
    return of(lambda x: _softmax(x, axis), lambda d, x: _dsoftmax(d, _softmax(x, axis), axis), x)


@right(
    doubt=0.02,
    reasons=("noise",),
    why="float32 keeps too few digits for a gradient this small beside its outputs",
)
def softmax_with_temperature(rng, dtype):
    """The temperature is differentiated too, down to a nearly hard choice."""
    n, k = dims(rng, 2, least=2)
    x, t = _logits(rng, dtype, n, k, (1.0,)), between(rng, dtype, 0.2, 2)
    x[0, 0] += 1

    def vjp(d, x, t):
        dz = _dsoftmax(d, _softmax(x / t))
        return dz / t, -(dz * x).sum() / (t * t)

    return of(lambda x, t: _softmax(x / t), vjp, x, t)


@right
def log_softmax(rng, dtype):
    """Logits up to 1e4, whose logarithms stay finite."""
    x = _logits(rng, dtype, *dims(rng, 2, least=2))

    def vjp(d, x):
        return d - np.exp(_log_softmax(x)) * d.sum(-1, keepdims=True)

    return of(_log_softmax, vjp, x)


@right(
    doubt=0.15,
    reasons=("noise", "curvature", "kink"),
    why="float32 steps of logits of 1e4 leave the scale on which two of them compete",
)
def log_sum_exp(rng, dtype):
    """The logarithm of sums of exponentials, shifted by up to 1e4."""
    x = _logits(rng, dtype, *dims(rng, 2, least=2)) + np.asarray(pick(rng, 0, -1e4, 1e4), dtype)

    def f(x):
        top = x.max(-1)
        return top + np.log(np.exp(x - top[..., None]).sum(-1))

    return of(f, lambda d, x: d[..., None] * _softmax(x), x.astype(dtype))


def _picked(logits, targets):
    kept = targets >= 0
    logs = _log_softmax(logits)
    return kept, logs, logs[np.arange(len(targets)), np.where(kept, targets, 0)]


def _cross_entropy(logits, *, targets):
    kept, _, picked = _picked(logits, targets)
    return -(picked * kept).sum() / max(int(kept.sum()), 1)


def _cross_entropy_vjp(d, logits, *, targets):
    kept, logs, _ = _picked(logits, targets)
    g = np.exp(logs)
    g[np.arange(len(targets)), np.where(kept, targets, 0)] -= 1
    return (d * g * kept[:, None] / max(int(kept.sum()), 1)).astype(logits.dtype)


@right(
    doubt=0.03,
    reasons=("noise", "curvature", "vanishes"),
    why="float32 steps of logits of 1e4 leave the scale on which two of them compete",
)
def cross_entropy(rng, dtype):
    """Logits up to 1e4 and a target that is not the largest; some targets ignored."""
    n, k = dims(rng, 2, least=2)
    x = _logits(rng, dtype, n, k)
    targets = rng.integers(0, k, n)
    targets[0] = 0
    targets[1:][rng.random(n - 1) < 0.3] = -100
    return of(_cross_entropy, _cross_entropy_vjp, x, targets=targets)


@right
def cross_entropy_learnt(rng, dtype):
    """All targets well predicted: a loss of 1e-4 to 1e-9 and as small a gradient."""
    n, k = dims(rng, 2, least=2)
    targets = rng.integers(0, k, n)
    x = normal(rng, dtype, n, k, scale=0.5)
    x[np.arange(n), targets] += np.asarray(pick(rng, 5, 8), dtype)
    return of(_cross_entropy, _cross_entropy_vjp, x, targets=targets)


@right
def soft_targets(rng, dtype):
    """Cross entropy with smoothed targets given as probabilities, which are differentiated too."""
    n, k = dims(rng, 2, least=2)
    x, p = normal(rng, dtype, n, k, scale=3), between(rng, dtype, 0.1, 1, n, k)

    def f(x, p):
        return -(p * _log_softmax(x)).sum() / len(x)

    def vjp(d, x, p):
        dx = d * (_softmax(x) * p.sum(-1, keepdims=True) - p) / len(x)
        return dx.astype(x.dtype), (-d * _log_softmax(x) / len(x)).astype(x.dtype)

    return of(f, vjp, x, p)


@right
def binary_cross_entropy(rng, dtype):
    """From logits up to 1e3, as max(x, 0) - x y + log(1 + exp(-|x|)): smooth across 0."""
    shape = dims(rng, 2)
    x = normal(rng, dtype, *shape, scale=pick(rng, 1e-3, 1, 30, 1e3))
    y = rng.integers(0, 2, shape).astype(dtype)
    x.flat[0], y.flat[0] = 0.5, 0

    def f(x, *, y):
        return (np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))).mean()

    def vjp(d, x, *, y):
        e = np.exp(-np.abs(x))
        return (d * (np.where(x >= 0, 1, e) / (1 + e) - y) / x.size).astype(x.dtype)

    return of(f, vjp, x, y=y)


@right
def kullback_leibler(rng, dtype):
    """Between two softmaxes, both differentiated, not far from each other."""
    n, k = dims(rng, 2, least=2)
    a = normal(rng, dtype, n, k)
    b = (a + normal(rng, dtype, n, k, scale=pick(rng, 1.0, 0.3, 0.1))).astype(dtype)

    def f(a, b):
        return (_softmax(a) * (_log_softmax(a) - _log_softmax(b))).sum()

    def vjp(d, a, b):
        p, gap = _softmax(a), _log_softmax(a) - _log_softmax(b)
        return d * _dsoftmax(gap, p), d * (_softmax(b) - p)

    return of(f, vjp, a, b)


@right
def entropy(rng, dtype):
    """The entropy of a softmax, from nearly uniform to rather sure."""
    x = normal(rng, dtype, *dims(rng, 2, least=2), scale=pick(rng, 0.1, 1.0, 5.0))

    def f(x):
        return -(_softmax(x) * _log_softmax(x)).sum(-1)

    def vjp(d, x):
        return _dsoftmax(-d[:, None] * _log_softmax(x), _softmax(x))

    return of(f, vjp, x)


@right
def masked_softmax(rng, dtype):
    """A boolean mask by keyword, with rows in which nothing is left: these are zeros."""
    n, k = dims(rng, 2, least=2)
    mask = rng.random((n, k)) < 0.6
    mask[0], mask[-1] = True, False
    x = _logits(rng, dtype, n, k, (1.0, 1e3))

    def f(x, *, mask):
        top = np.where(mask, x, -np.inf).max(-1, keepdims=True)
        e = np.where(mask, np.exp(np.minimum(x - np.where(np.isfinite(top), top, 0), 0)), 0)
        total = e.sum(-1, keepdims=True)
        return (e / np.where(total > 0, total, 1)).astype(x.dtype)

    return of(f, lambda d, x, *, mask: _dsoftmax(d, f(x, mask=mask)), x, mask=mask)


@right(
    doubt=0.06,
    reasons=("noise", "kink"),
    why="where a whole row is masked, x is rounded to multiples of 1e-7 inside of forward",
)
def additive_mask(rng, dtype):
    """A mask of -1e9 added to the scores, which swallows most of their digits (float32: all).

    In float64 whole rows may be masked, and are softmaxes of what is left of the scores.
    """
    n, k = dims(rng, 2, least=2)
    mask = np.where(rng.random((n, k)) < 0.4, -1e9, 0).astype(dtype)
    mask[0] = 0
    if dtype == "float32":
        mask[:, 0] = 0
    x = normal(rng, dtype, n, k)

    def vjp(d, x, *, mask):
        return _dsoftmax(d, _softmax(x + mask))

    return of(lambda x, *, mask: _softmax(x + mask), vjp, x, mask=mask)


@right
def attention(rng, dtype):
    """Batched heads by einsum, causal or not, scores from flat to nearly hard."""
    b, h, t, s, c = dims(rng, 5, 3)
    t, s = max(t, 2), max(s, 2)
    causal, scale = bool(rng.random() < 0.5), pick(rng, 0.1, 1.0, 2.0)
    q, k = normal(rng, dtype, b, h, t, c, scale=scale), normal(rng, dtype, b, h, s, c)
    v = normal(rng, dtype, b, h, s, c)
    seen = np.tril(np.ones((t, s), bool)) if causal else np.ones((t, s), bool)

    def weights(q, k):
        scores = np.einsum("bhtc,bhsc->bhts", q, k) / c**0.5
        return _softmax(np.where(seen, scores, -np.inf))

    def f(q, k, v):
        return np.einsum("bhts,bhsc->bhtc", weights(q, k), v)

    def vjp(d, q, k, v):
        p = weights(q, k)
        ds = _dsoftmax(np.einsum("bhtc,bhsc->bhts", d, v), p) / c**0.5
        dq, dk = np.einsum("bhts,bhsc->bhtc", ds, k), np.einsum("bhts,bhtc->bhsc", ds, q)
        return dq, dk, np.einsum("bhts,bhtc->bhsc", p, d)

    return of(f, vjp, q, k, v)


@right
def contrastive(rng, dtype):
    """Two sets of unit vectors, each to find its partner among the others."""
    n, c = dims(rng, 2, least=2)
    a, b = normal(rng, dtype, n, c), normal(rng, dtype, n, c)
    sharpness = pick(rng, 1.0, 5.0, 20.0)

    def unit(x):
        return x / np.sqrt((x * x).sum(-1, keepdims=True))

    def dunit(d, x):
        u = unit(x)
        return (d - u * (d * u).sum(-1, keepdims=True)) / np.sqrt((x * x).sum(-1, keepdims=True))

    def f(a, b):
        return -np.diag(_log_softmax(sharpness * unit(a) @ unit(b).T)).mean()

    def vjp(d, a, b):
        scores = sharpness * unit(a) @ unit(b).T
        ds = (d * sharpness * (_softmax(scores) - np.eye(n)) / n).astype(a.dtype)
        return dunit(ds @ unit(b), a), dunit(ds.T @ unit(a), b)

    return of(f, vjp, a, b)

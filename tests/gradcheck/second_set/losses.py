"""Softmax and losses, averaged over what counts."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, sigmoid, softmax


def scores(rng, scale=1.5):
    n, k = different(rng, 2, 3, 7)
    return scale * rng.standard_normal((n, k)), rng.integers(k, size=n), rng


def one_hot(targets, k):
    return np.eye(k)[targets]


def probabilities(x):
    p = softmax(x)
    return p, p


def probabilities_backward(dout, p):
    return p * (dout - (dout * p).sum(-1, keepdims=True))


SOFTMAX = Subject(probabilities, probabilities_backward, lambda rng: ([scores(rng)[0]], {}))


@SOFTMAX.wrong(("missing_term", "local_derivative"), "p (1 - p), the sigmoid's; no off-diagonal.")
def diagonal_only(dout, p):
    return dout * p * (1 - p)


@SOFTMAX.wrong("missing_term", "The sum is of dout alone, without the probabilities.")
def sum_without_probabilities(dout, p):
    return p * (dout - dout.sum(-1, keepdims=True))


@SOFTMAX.wrong(("zero", "upstream_ignored"), "Ones for dout, which a softmax takes to zero.")
def ones_upstream(dout, p):
    return probabilities_backward(np.ones_like(dout), p)


@SOFTMAX.wrong("sign", "The Jacobian with its diagonal and outer product exchanged.")
def jacobian_turned(dout, p):
    return np.stack([(np.outer(q, q) - np.diag(q)) @ d for q, d in zip(p, dout, strict=True)])


def cross_entropy(logits, *, targets):
    p = softmax(logits)
    n = len(targets)
    return -np.log(p[np.arange(n), targets]).mean(), (p, targets)


def cross_entropy_backward(dout, cache):
    p, targets = cache
    return dout * (p - one_hot(targets, p.shape[1])) / len(targets)


def cross_entropy_case(rng):
    logits, targets, _ = scores(rng)
    return [logits], {"targets": targets}


CROSS = Subject(cross_entropy, cross_entropy_backward, cross_entropy_case)


@CROSS.wrong("factor", "The mean's 1/N is lost.")
def not_averaged(dout, cache):
    return cross_entropy_backward(dout, cache) * len(cache[1])


@CROSS.wrong("cache_spent", "p[range(N), y] -= 1 on the cached probabilities.")
def one_less_in_the_cache(dout, cache):
    p, targets = cache
    p[np.arange(len(targets)), targets] -= 1
    return dout * p / len(targets)


@CROSS.wrong("upstream_ignored", "The loss is the end of the graph, so dout isn't asked for.")
def loss_is_the_end(dout, cache):
    return cross_entropy_backward(1.0, cache)


@CROSS.wrong("sign", "Targets less probabilities.")
def targets_less_probabilities(dout, cache):
    return -cross_entropy_backward(dout, cache)


def smoothed(logits, *, targets, smoothing=0.2):
    """Cross entropy with label smoothing, summed over the batch."""
    p, k = softmax(logits), logits.shape[1]
    q = (1 - smoothing) * one_hot(targets, k) + smoothing / k
    return -(q * np.log(p)).sum(), (p, q, targets)


SMOOTHED = Subject(smoothed, lambda dout, c: dout * (c[0] - c[1]), cross_entropy_case)


@SMOOTHED.wrong(None, "The hard targets in backward.")
def hard_targets(dout, cache):
    p, _, targets = cache
    return dout * (p - one_hot(targets, p.shape[1]))


@SMOOTHED.wrong("factor", "Averaged in backward, summed in forward.")
def averaged_in_backward_alone(dout, cache):
    p, q, targets = cache
    return dout * (p - q) / len(targets)


def weighted(logits, *, targets, weights):
    """Cross entropy with a weight for each class, over the sum of the weights."""
    p, w = softmax(logits), weights[targets]
    picked = -np.log(p[np.arange(len(targets)), targets])
    return (w * picked).sum() / w.sum(), (p, targets, w)


def weighted_backward(dout, cache):
    p, targets, w = cache
    return dout * w[:, None] * (p - one_hot(targets, p.shape[1])) / w.sum()


def weighted_case(rng):
    logits, targets, _ = scores(rng)
    return [logits], {"targets": targets, "weights": 0.3 + 2 * rng.random(logits.shape[1])}


WEIGHTED = Subject(weighted, weighted_backward, weighted_case)


@WEIGHTED.wrong(("mask_forgotten", "local_derivative"), "The classes' weights aren't applied.")
def weights_forgotten(dout, cache):
    p, targets, _ = cache
    return dout * (p - one_hot(targets, p.shape[1])) / len(targets)


@WEIGHTED.wrong("factor", "Over the number of samples, not over the sum of the weights.")
def over_the_count(dout, cache):
    return weighted_backward(dout, cache) * cache[2].sum() / len(cache[2])


def padded(logits, *, targets):
    """Cross entropy over (N, T) that leaves out the targets -1."""
    p, kept = softmax(logits), targets >= 0
    picked = np.take_along_axis(p, np.maximum(targets, 0)[..., None], -1)[..., 0]
    return -(np.log(picked) * kept).sum() / kept.sum(), (p, targets, kept)


def padded_backward(dout, cache):
    p, targets, kept = cache
    d = (p - one_hot(np.maximum(targets, 0), p.shape[-1])) * kept[..., None]
    return dout * d / kept.sum()


def padded_case(rng):
    n, t, k = different(rng, 3, 3)
    targets = rng.integers(k, size=(n, t))
    targets[0, -2:] = targets[1, -1:] = -1
    return [rng.standard_normal((n, t, k))], {"targets": targets}


PADDED = Subject(padded, padded_backward, padded_case)


@PADDED.wrong("mask_forgotten", "Padding gets a gradient.")
def padding_counts(dout, cache):
    p, targets, kept = cache
    return dout * (p - one_hot(np.maximum(targets, 0), p.shape[-1])) / kept.sum()


@PADDED.wrong("factor", "Over all positions, padding included.")
def over_all_positions(dout, cache):
    return padded_backward(dout, cache) * cache[2].mean()


@PADDED.wrong("wrong_step", "Rolled by a position, though the targets were shifted already.")
def targets_shifted_twice(dout, cache):
    return np.roll(padded_backward(dout, cache), -1, 1)


def binary(logits, *, labels):
    """Binary cross entropy with logits, (N,)."""
    return (np.logaddexp(0, logits) - labels * logits).mean(), (logits, labels)


def binary_backward(dout, cache):
    z, y = cache
    return dout * (sigmoid(z) - y) / len(z)


def binary_case(rng):
    n = 5 + int(rng.integers(4))
    return [rng.standard_normal(n)], {"labels": rng.permutation(np.arange(n) % 2)}


def confident_case(rng):
    (z,), kwargs = binary_case(rng)
    return [np.append(z, 45.0)], {"labels": np.append(kwargs["labels"], 0)}


BINARY = Subject(binary, binary_backward, binary_case)


@BINARY.wrong("local_derivative", "Stops at the probability: (p - y) / (p (1 - p)).")
def of_the_probability(dout, cache):
    p = sigmoid(cache[0])
    return binary_backward(dout, cache) / (p * (1 - p))


@BINARY.wrong("not_finite", "Through the probability, which is 1 to the last bit.", confident_case)
def infinite_where_sure(dout, cache):
    z, y = cache
    p = sigmoid(z)
    with np.errstate(all="ignore"):
        return dout * ((1 - y) / (1 - p) - y / p) * p * (1 - p) / len(z)


@BINARY.wrong(("sign", "part_wrong"), "The sign of the positive examples' term.")
def positives_turned(dout, cache):
    z, y = cache
    return dout * np.where(y == 1, 1 - sigmoid(z), sigmoid(z)) / len(z)

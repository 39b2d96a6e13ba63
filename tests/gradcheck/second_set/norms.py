"""Normalisations: over the batch, the features, groups of channels, and by the mean square."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def normalised(x, axes, eps):
    centred = x - x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(axes, keepdims=True) + eps)
    return centred * inverse, inverse


def normalised_backward(d, normed, inverse, axes):
    mean, share = d.mean(axes, keepdims=True), (d * normed).mean(axes, keepdims=True)
    return inverse * (d - mean - normed * share)


def batch_norm(x, gamma, beta, *, eps=1e-5):
    normed, inverse = normalised(x, 0, eps)
    return gamma * normed + beta, (x, normed, inverse, gamma)


def batch_norm_backward(dout, cache):
    _, normed, inverse, gamma = cache
    dx = normalised_backward(dout * gamma, normed, inverse, 0)
    return dx, (dout * normed).sum(0), dout.sum(0)


def batch_norm_case(rng):
    n, d = different(rng, 2, 4, 8)
    x = 2 * rng.standard_normal((n, d)) + rng.standard_normal(d)
    return [x, 1 + 0.5 * rng.standard_normal(d), rng.standard_normal(d)], {}


BATCH = Subject(batch_norm, batch_norm_backward, batch_norm_case)


@BATCH.wrong("missing_term", "As at test time: the statistics are constants.")
def statistics_held_constant(dout, cache):
    _, _, inverse, gamma = cache
    return (dout * gamma * inverse, *batch_norm_backward(dout, cache)[1:])


@BATCH.wrong("missing_term", "The variance's way back is there, the mean's is not.")
def without_the_means_share(dout, cache):
    _, normed, inverse, gamma = cache
    d = dout * gamma
    dx = inverse * (d - normed * (d * normed).mean(0))
    return dx, (dout * normed).sum(0), dout.sum(0)


@BATCH.wrong("local_derivative", "gamma multiplies the normalised x, not x.")
def gain_with_raw_x(dout, cache):
    dx, _, dbeta = batch_norm_backward(dout, cache)
    return dx, (dout * cache[0]).sum(0), dbeta


@BATCH.wrong("other_parameter", "dbeta and dgamma returned the wrong way round.")
def gain_and_shift_exchanged(dout, cache):
    dx, dgamma, dbeta = batch_norm_backward(dout, cache)
    return dx, dbeta, dgamma


@BATCH.wrong(("missing_term", "factor"), "The one-line formula without its 1/N before the sums.")
def sums_for_means(dout, cache):
    _, normed, inverse, gamma = cache
    d = dout * gamma
    dx = inverse * (d - d.sum(0) - normed * (d * normed).sum(0))
    return dx, (dout * normed).sum(0), dout.sum(0)


def layer_norm(x, gain, bias, *, eps=1e-5):
    normed, inverse = normalised(x, -1, eps)
    return gain * normed + bias, (normed, inverse, gain)


def layer_norm_backward(dout, cache):
    normed, inverse, gain = cache
    dx = normalised_backward(dout * gain, normed, inverse, -1)
    return dx, (dout * normed).sum((0, 1)), dout.sum((0, 1))


def layer_norm_case(rng):
    n, t, d = different(rng, 3, 3, 7)
    x = rng.standard_normal((n, t, d)) + rng.standard_normal((n, t, 1))
    return [x, 1 + 0.5 * rng.standard_normal(d), rng.standard_normal(d)], {}


LAYER = Subject(layer_norm, layer_norm_backward, layer_norm_case)


@LAYER.wrong("missing_term", "The term with the normalised x left out.")
def without_the_variances_share(dout, cache):
    _, inverse, gain = cache
    d = dout * gain
    dx = inverse * (d - d.mean(-1, keepdims=True))
    return (dx, *layer_norm_backward(dout, cache)[1:])


@LAYER.wrong((None, "missing_term"), "Copied from the batch norm: means along the batch.")
def means_along_the_batch(dout, cache):
    normed, inverse, gain = cache
    dx = normalised_backward(dout * gain, normed, inverse, 0)
    return (dx, *layer_norm_backward(dout, cache)[1:])


@LAYER.wrong("missing_sum", "Gain and bias summed over the batch, not over the positions.")
def positions_not_summed(dout, cache):
    normed, inverse, gain = cache
    dx = normalised_backward(dout * gain, normed, inverse, -1)
    return dx, (dout * normed).sum(0), dout.sum(0)


@LAYER.wrong(("local_derivative", "missing_term"), "dx without the gain.")
def gain_forgotten_in_dx(dout, cache):
    normed, inverse, _ = cache
    dx = normalised_backward(dout, normed, inverse, -1)
    return (dx, *layer_norm_backward(dout, cache)[1:])


@LAYER.wrong(
    "dtype",
    "A mean taken in float64 for accuracy, and left so.",
    case=lambda rng: ([a.astype(np.float32) for a in layer_norm_case(rng)[0]], {}),
)
def left_in_float64(dout, cache):
    dx, dgain, dbias = layer_norm_backward(dout, cache)
    return dx.astype(np.float64), dgain, dbias


def group_norm(x, gamma, beta, *, groups, eps=1e-5):
    n = len(x)
    normed, inverse = normalised(x.reshape(n, groups, -1), 2, eps)
    normed = normed.reshape(x.shape)
    y = gamma[:, None, None] * normed + beta[:, None, None]
    return y, (normed, inverse, gamma, groups)


def group_norm_dx(dout, cache):
    normed, inverse, gamma, groups = cache
    shape = (len(dout), groups, -1)
    d = (dout * gamma[:, None, None]).reshape(shape)
    return normalised_backward(d, normed.reshape(shape), inverse, 2).reshape(dout.shape)


def group_norm_backward(dout, cache):
    dx = group_norm_dx(dout, cache)
    return dx, (dout * cache[0]).sum((0, 2, 3)), dout.sum((0, 2, 3))


def group_norm_case(rng):
    n, h, w = different(rng, 3, 2, 4)
    c = 6
    gain, shift = 1 + 0.5 * rng.standard_normal(c), rng.standard_normal(c)
    return [rng.standard_normal((n, c, h, w)), gain, shift], {"groups": 3}


GROUP = Subject(group_norm, group_norm_backward, group_norm_case)


@GROUP.wrong("shape", "keepdims leaves (1, C, 1, 1) where the parameters are (C,).")
def dimensions_kept(dout, cache):
    axes = (0, 2, 3)
    dgamma, dbeta = (dout * cache[0]).sum(axes, keepdims=True), dout.sum(axes, keepdims=True)
    return group_norm_dx(dout, cache), dgamma, dbeta


@GROUP.wrong("missing_sum", "gamma and beta keep a gradient for each sample.")
def samples_not_summed(dout, cache):
    return group_norm_dx(dout, cache), (dout * cache[0]).sum((2, 3)), dout.sum((2, 3))


@GROUP.wrong((None, "missing_term"), "The means are taken over all channels, not over the group's.")
def as_if_one_group(dout, cache):
    normed, inverse, gamma, groups = cache
    inverse = np.repeat(inverse, dout.shape[1] // groups, 1)[..., None]
    dx = normalised_backward(dout * gamma[:, None, None], normed, inverse, (1, 2, 3))
    return (dx, *group_norm_backward(dout, cache)[1:])


def instance_norm(x, *, eps=1e-5):
    """Each channel of each sample over its positions, (N, C, T)."""
    normed, inverse = normalised(x, 2, eps)
    return normed, (normed, inverse)


def instance_norm_backward(dout, cache):
    return normalised_backward(dout, *cache, 2)


INSTANCE = Subject(
    instance_norm,
    instance_norm_backward,
    lambda rng: ([3 * rng.standard_normal(different(rng, 3, 3, 7))], {}),
)


@INSTANCE.wrong("part_wrong", "The first channel is skipped, and gets the plain upstream gradient.")
def first_channel_skipped(dout, cache):
    dx = dout.copy()
    for c in range(1, dout.shape[1]):
        dx[:, c] = instance_norm_backward(dout, cache)[:, c]
    return dx


@INSTANCE.wrong(("factor", "local_derivative"), "Multiplied by the variance's root, not divided.")
def not_over_the_deviation(dout, cache):
    normed, inverse = cache
    return normalised_backward(dout, normed, 1 / inverse, 2)


@INSTANCE.wrong("missing_term", "The variance is a constant; only the mean is undone.")
def only_the_mean(dout, cache):
    return cache[1] * (dout - dout.mean(2, keepdims=True))


def rms_norm(x, gain, *, eps=1e-6):
    inverse = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return gain * x * inverse, (x, inverse, gain)


def rms_norm_backward(dout, cache):
    x, inverse, gain = cache
    d = dout * gain
    dx = inverse * d - x * inverse**3 * (d * x).mean(-1, keepdims=True)
    return dx, (dout * x * inverse).sum(0)


def rms_norm_case(rng):
    n, d = different(rng, 2, 3, 7)
    return [2 * rng.standard_normal((n, d)), 1 + 0.5 * rng.standard_normal(d)], {}


RMS = Subject(rms_norm, rms_norm_backward, rms_norm_case)


@RMS.wrong("missing_term", "The mean square's dependence on x left out.")
def mean_square_held_constant(dout, cache):
    _, inverse, gain = cache
    return inverse * dout * gain, rms_norm_backward(dout, cache)[1]


@RMS.wrong(("missing_term", "factor"), "The term's 1/C is lost: a sum for the mean.")
def sum_for_the_mean(dout, cache):
    x, inverse, gain = cache
    d = dout * gain
    dx = inverse * d - x * inverse**3 * (d * x).sum(-1, keepdims=True)
    return dx, (dout * x * inverse).sum(0)


@RMS.wrong(("factor", "local_derivative"), "The gain's gradient with x, not with x over its size.")
def gain_with_raw_input(dout, cache):
    return rms_norm_backward(dout, cache)[0], (dout * cache[0]).sum(0)

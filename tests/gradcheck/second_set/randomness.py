"""Layers that draw random numbers."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def reparameterised(mean, log_var, *, rng):
    """A sample of a normal distribution, as in a variational autoencoder."""
    noise, deviation = rng.standard_normal(mean.shape), np.exp(log_var / 2)
    return mean + deviation * noise, (noise, deviation)


def reparameterised_backward(dout, cache):
    noise, deviation = cache
    return dout.copy(), dout * noise * deviation / 2


def reparameterised_case(rng):
    n, d = different(rng, 2, 3)
    args = [rng.standard_normal((n, d)), rng.standard_normal((n, d))]
    return args, {"rng": np.random.default_rng(int(rng.integers(99)))}


SAMPLED = Subject(reparameterised, reparameterised_backward, reparameterised_case)


@SAMPLED.wrong("factor", "The half of log_var / 2.")
def without_the_half(dout, cache):
    noise, deviation = cache
    return dout.copy(), dout * noise * deviation


@SAMPLED.wrong("local_derivative", "The exponential isn't differentiated.")
def exponential_forgotten(dout, cache):
    return dout.copy(), dout * cache[0] / 2


@SAMPLED.wrong("not_deterministic", "Draws new noise in the backward.")
def with_new_noise(dout, cache):
    deviation = cache[1]
    return dout.copy(), dout * np.random.default_rng().standard_normal(dout.shape) * deviation / 2


def dropout(x, *, keep, rng):
    mask = rng.random(x.shape) < keep
    return x * mask / keep, (mask, keep)


def dropout_case(rng):
    x = rng.standard_normal((5 + int(rng.integers(3)), 7))
    return [x], {"keep": 0.6, "rng": np.random.default_rng(int(rng.integers(99)))}


DROPOUT = Subject(dropout, lambda d, c: d * c[0] / c[1], dropout_case)


@DROPOUT.wrong("mask_forgotten", "Only the scale is applied.")
def without_the_mask(dout, cache):
    return dout / cache[1]


@DROPOUT.wrong("factor", "The mask without the inverted scale.")
def without_the_scale(dout, cache):
    return dout * cache[0]


@DROPOUT.wrong("not_deterministic", "Backward draws a mask of its own.")
def with_a_new_mask(dout, cache):
    _, keep = cache
    return dout * (np.random.default_rng().random(dout.shape) < keep) / keep

"""Attention's positions: rotations of queries and keys, a bias by distance."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, softmax


def angles(t, half, base=100.0):
    angle = np.arange(t)[:, None] * base ** (-np.arange(half) / half)
    return np.cos(angle), np.sin(angle)


def turned(x, cos, sin):
    a, b = np.split(x, 2, -1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotary(x):
    """x (B, T, D), each pair (i, i + D/2) turned by its position's angle."""
    cos, sin = angles(x.shape[1], x.shape[2] // 2)
    return turned(x, cos, sin), (cos, sin)


def rotary_backward(dout, cache):
    cos, sin = cache
    return turned(dout, cos, -sin)


def rotary_case(rng):
    b, t, half = different(rng, 3, 2, 5)
    return [rng.standard_normal((b, t + 2, 2 * half))], {}


ROTARY = Subject(rotary, rotary_backward, rotary_case)


@ROTARY.wrong(("transposed", "sign"), "Turned on, not back: the angle's sign.")
def turned_on(dout, cache):
    return turned(dout, *cache)


@ROTARY.wrong("wrong_step", "Positions counted from one in backward.")
def by_the_next_positions_angle(dout, cache):
    t, half = cache[0].shape
    cos, sin = angles(t + 1, half)
    return turned(dout, cos[1:], -sin[1:])


@ROTARY.wrong("part_wrong", "The second half is passed through as it is.")
def second_half_not_turned(dout, cache):
    dx = rotary_backward(dout, cache)
    half = dx.shape[-1] // 2
    dx[..., half:] = dout[..., half:]
    return dx


def relative(scores, bias, v):
    """softmax(scores + bias[i - j + T - 1]) v: one learnt bias for each distance."""
    t = scores.shape[-1]
    distance = np.arange(t)[:, None] - np.arange(t) + t - 1
    p = softmax(scores + bias[distance])
    return p @ v, (p, v, distance, bias.shape)


def relative_parts(dout, cache):
    p, v = cache[:2]
    dp = dout @ v.swapaxes(-1, -2)
    return p * (dp - (dp * p).sum(-1, keepdims=True)), p.swapaxes(-1, -2) @ dout


def relative_backward(dout, cache):
    d, dv = relative_parts(dout, cache)
    dbias = np.zeros(cache[3])
    np.add.at(dbias, cache[2], d.sum(0))
    return d, dbias, dv


def relative_case(rng):
    b, t, c = different(rng, 3, 3, 6)
    shapes = [(b, t, t), (2 * t - 1,), (b, t, c)]
    return [rng.standard_normal(shape) for shape in shapes], {}


RELATIVE = Subject(relative, relative_backward, relative_case)


@RELATIVE.wrong("overwritten", "dbias[distance] += for distances that many pairs share.")
def pairs_of_one_distance(dout, cache):
    d, dv = relative_parts(dout, cache)
    dbias = np.zeros(cache[3])
    dbias[cache[2]] += d.sum(0)
    return d, dbias, dv


@RELATIVE.wrong(("transposed", "wrong_step"), "j - i for i - j: the distances mirrored.")
def distances_mirrored(dout, cache):
    d, dbias, dv = relative_backward(dout, cache)
    return d, dbias[::-1].copy(), dv


@RELATIVE.wrong("missing_sum", "The bias is shared by the batch, and one sample is looked at.")
def first_sample_alone(dout, cache):
    d, dv = relative_parts(dout, cache)
    dbias = np.zeros(cache[3])
    np.add.at(dbias, cache[2], d[0])
    return d, dbias, dv


@RELATIVE.wrong("missing_term", "The softmax without its subtracted term.")
def softmaxs_term_left_out(dout, cache):
    p, v, distance, shape = cache
    d, dbias = p * (dout @ v.swapaxes(-1, -2)), np.zeros(shape)
    np.add.at(dbias, distance, d.sum(0))
    return d, dbias, p.swapaxes(-1, -2) @ dout

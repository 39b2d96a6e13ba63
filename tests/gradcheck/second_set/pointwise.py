"""Activations, and what else works element by element."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, sigmoid


def matrix(rng):
    return [1.5 * rng.standard_normal(different(rng, 2, 3))], {}


def swish(x):
    s = sigmoid(x)
    return x * s, (x, s)


def swish_backward(dout, cache):
    x, s = cache
    return dout * (s + x * s * (1 - s))


SWISH = Subject(swish, swish_backward, matrix)


@SWISH.wrong("local_derivative", "The product rule stops after its first half.")
def half_of_the_product_rule(dout, cache):
    return dout * cache[1]


@SWISH.wrong("local_derivative", "The sigmoid's derivative, for swish.")
def sigmoids_derivative(dout, cache):
    s = cache[1]
    return dout * s * (1 - s)


def gelu_tanh(x):
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + t), (x, t)


def gelu_tanh_backward(dout, cache):
    x, t = cache
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)


GELU = Subject(gelu_tanh, gelu_tanh_backward, matrix)


@GELU.wrong("local_derivative", "The derivative of the sigmoid approximation x s(1.702 x).")
def of_the_other_approximation(dout, cache):
    x, _ = cache
    s = sigmoid(1.702 * x)
    return dout * (s + 1.702 * x * s * (1 - s))


@GELU.wrong("local_derivative", "The cube's 3 is lost in the inner derivative.")
def cube_without_its_three(dout, cache):
    x, t = cache
    inner = np.sqrt(2 / np.pi) * (1 + 0.044715 * x**2)
    return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)


def elu(x, *, alpha=1.3):
    y = np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))
    return y, (x, y, alpha)


def elu_backward(dout, cache):
    x, y, alpha = cache
    return dout * np.where(x > 0, 1, y + alpha)


ELU = Subject(elu, elu_backward, matrix)


@ELU.wrong(("part_wrong", "local_derivative"), "y for y + alpha where x is negative.")
def without_alpha(dout, cache):
    x, y, _ = cache
    return dout * np.where(x > 0, 1, y)


@ELU.wrong(("mask_forgotten", "local_derivative"), "1 on both sides of zero.")
def one_everywhere(dout, cache):
    return dout.copy()


def softplus(x):
    return np.logaddexp(0, x), x


SOFTPLUS = Subject(softplus, lambda dout, x: dout * sigmoid(x), matrix)


@SOFTPLUS.wrong("local_derivative", "The sigmoid of -x.")
def sigmoid_of_the_negative(dout, x):
    return dout * sigmoid(-x)


@SOFTPLUS.wrong("local_derivative", "The sigmoid of the output, which was all the cache had.")
def sigmoid_of_the_output(dout, x):
    return dout * sigmoid(np.logaddexp(0, x))


def leaky_relu(x, *, slope=0.1):
    return np.where(x > 0, x, slope * x), (x, slope)


LEAKY = Subject(leaky_relu, lambda d, c: d * np.where(c[0] > 0, 1, c[1]), matrix)


@LEAKY.wrong("local_derivative", "The two slopes exchanged.")
def slopes_exchanged(dout, cache):
    x, slope = cache
    return dout * np.where(x > 0, slope, 1)


@LEAKY.wrong(("local_derivative", "part_wrong"), "A plain ReLU's gate: no leak.")
def without_the_leak(dout, cache):
    return dout * (cache[0] > 0)


@LEAKY.wrong("mutates", "dout[x < 0] *= slope, and dout is the caller's.")
def scaled_in_place(dout, cache):
    x, slope = cache
    dout[x < 0] *= slope
    return dout


def tanh(x):
    y = np.tanh(x)
    return y, y


TANH = Subject(tanh, lambda dout, y: dout * (1 - y**2), matrix)


@TANH.wrong("local_derivative", "The cache holds tanh(x), and the backward takes tanh of it again.")
def at_the_output(dout, y):
    return dout * (1 - np.tanh(y) ** 2)


@TANH.wrong("local_derivative", "The square is missing.")
def not_squared(dout, y):
    return dout * (1 - y)


@TANH.wrong("upstream_ignored", "The derivative is returned as it is, not times dout.")
def bare_derivative(dout, y):
    return 1 - y**2


@TANH.wrong("sign", "y squared less one.")
def the_wrong_way_round(dout, y):
    return dout * (y**2 - 1)


@TANH.wrong(None, "The gradient is clipped in the layer, as some scripts do against explosions.")
def clipped(dout, y):
    return np.clip(dout * (1 - y**2), -0.2, 0.2)


def prelu(x, slope):
    """One slope for each channel."""
    return np.where(x > 0, x, slope * x), (x, slope)


def prelu_backward(dout, cache):
    x, slope = cache
    return dout * np.where(x > 0, 1, slope), (dout * np.minimum(x, 0)).sum(0)


def prelu_case(rng):
    n, c = different(rng, 2, 3, 7)
    return [rng.standard_normal((n, c)), 0.2 + 0.5 * rng.random(c)], {}


PRELU = Subject(prelu, prelu_backward, prelu_case)


@PRELU.wrong("mask_forgotten", "All of x in the slope's gradient, not its negative part.")
def slope_from_all(dout, cache):
    return prelu_backward(dout, cache)[0], (dout * cache[0]).sum(0)


@PRELU.wrong("missing_sum", "The slope is shared by the batch and keeps one gradient a sample.")
def slope_not_summed(dout, cache):
    return prelu_backward(dout, cache)[0], dout * np.minimum(cache[0], 0)


def larger(a, b):
    """The elementwise maximum (maxout of two)."""
    return np.maximum(a, b), (a, b)


def larger_backward(dout, cache):
    a, b = cache
    return dout * (a > b), dout * (b > a)


def larger_case(rng):
    shape = different(rng, 2, 3)
    return [rng.standard_normal(shape), rng.standard_normal(shape)], {}


LARGER = Subject(larger, larger_backward, larger_case)


@LARGER.wrong("mask_forgotten", "Both get the whole gradient, as for a sum.")
def both_get_all(dout, cache):
    return dout.copy(), dout.copy()


@LARGER.wrong("other_parameter", "The loser takes it all.")
def to_the_smaller(dout, cache):
    a, b = cache
    return dout * (a < b), dout * (b < a)


def clip(x, *, low=-0.7, high=0.8):
    return np.clip(x, low, high), (x, low, high)


CLIP = Subject(clip, lambda d, c: d * ((c[0] > c[1]) & (c[0] < c[2])), matrix)


@CLIP.wrong("mask_forgotten", "A straight-through gradient, where the clip isn't meant to be one.")
def straight_through(dout, cache):
    return dout.copy()


@CLIP.wrong(("mask_forgotten", "part_wrong"), "Only the upper end is masked.")
def only_above(dout, cache):
    return dout * (cache[0] < cache[2])

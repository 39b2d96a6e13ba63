"""Wrong backwards of the Gaussian error linear unit, in both of its forms."""

import math

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def case(rng, ops):
    x = 1.5 * rng.standard_normal(sizes(rng, int(rng.integers(2, 4)), least=3))
    return (x,), {"approximate": str(rng.choice(["none", "tanh"]))}


def slope(saved, form):
    """d cdf / dx as one of the two forms has it; by tanh, 2 cdf (1 - cdf) is its outer slope."""
    x, cdf, _ = saved
    if form == "none":
        return np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    return 2 * cdf * (1 - cdf) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)


@wrong("local_derivative", "The weight of x is held constant: the product rule's first half alone.")
def weight_held_constant(dy, saved, ops):
    _, cdf, _ = saved
    return dy * cdf


@wrong("local_derivative", "cdf + density: the second half of the product rule has lost its x.")
def slope_without_x(dy, saved, ops):
    _, cdf, form = saved
    return dy * (cdf + slope(saved, form))


@wrong("local_derivative", "Forward is by erf and backward by tanh, or the other way round.")
def slope_of_the_other_form(dy, saved, ops):
    x, cdf, form = saved
    return dy * (cdf + x * slope(saved, "none" if form == "tanh" else "tanh"))


@wrong("local_derivative", "The outer function's slope alone: what is inside is held constant.")
def inner_derivative_forgotten(dy, saved, ops):
    x, cdf, form = saved
    # by erf, erf'(u) / 2 without du/dx = 1 / sqrt(2)
    outer = np.exp(-0.5 * x**2) / math.sqrt(math.pi) if form == "none" else 2 * cdf * (1 - cdf)
    return dy * (cdf + x * outer)


@wrong("local_derivative", "A number slips: the 1/2 in the exponent, or the 3 that x**3 brings.")
def coefficient_lost(dy, saved, ops):
    x, cdf, form = saved
    if form == "none":
        density = np.exp(-(x**2)) / math.sqrt(math.pi)
    else:
        density = 2 * cdf * (1 - cdf) * SQRT_2_OVER_PI * (1 + 0.044715 * x**2)
    return dy * (cdf + x * density)


@wrong("local_derivative", "The slope of the cheaper x * sigmoid(1.702 x).")
def slope_of_the_sigmoid_form(dy, saved, ops):
    x, _, _ = saved
    gate = 1 / (1 + np.exp(-1.702 * x))
    return dy * (gate + 1.702 * x * gate * (1 - gate))


@wrong("local_derivative", "The output was kept for backward where its formula wants the input.")
def slope_at_the_output(dy, saved, ops):
    x, cdf, form = saved
    _, cache = ops.gelu(x * cdf, approximate=form)
    return ops.gelu.backward(dy, cache)


@wrong("local_derivative", "By tanh, what is inside is taken for sqrt(2 / pi) x: no cubic term.")
def cubic_term_held_constant(dy, saved, ops):
    x, cdf, form = saved
    if form == "none":
        return ops.right(dy, saved)
    return dy * (cdf + x * 2 * cdf * (1 - cdf) * SQRT_2_OVER_PI)

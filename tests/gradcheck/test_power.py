"""Wrong gradients of ordinary functions that once got away: each must fail, or nearly always."""

import numpy as np
import pytest

from minillm.gradcheck import check_function, check_vjp

DTYPES = [np.float64, np.float32]


def outcomes(f, vjp, draw, seeds=40):
    """How often each verdict was given."""
    counts = {"pass": 0, "fail": 0, "inconclusive": 0}
    for seed in range(seeds):
        args = draw(np.random.default_rng([7, seed]))
        counts[check_function(f, vjp, args, seed=seed, diagnose=False).verdict] += 1
    return counts


def half_square(x):
    return x.dtype.type(0.5) * (x * x).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(10, 10), (30, 40)])
@pytest.mark.parametrize(("factor", "least"), [(-1, 40), (2, 40), (1.1, 38)])
def test_half_a_square(shape, factor, least, dtype):
    """Small elements are no reason to look at a part of the array alone."""

    def vjp(d, x):
        return (factor * d * x).astype(x.dtype)

    def draw(rng):
        return [rng.standard_normal(shape).astype(dtype)]

    counts = outcomes(half_square, vjp, draw)
    assert counts["fail"] >= least, counts
    assert outcomes(half_square, lambda d, x: d * x, draw)["fail"] == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_parabola_far_from_its_vertex(dtype):
    """Differences are exact on it at any step, also at one far beyond the values' spread."""

    def draw(rng):
        return [(10 + rng.standard_normal(4)).astype(dtype)]

    assert outcomes(lambda x: x * x, lambda d, x: -2 * d * x, draw)["fail"] == 40
    assert outcomes(lambda x: x * x, lambda d, x: 2 * d * x, draw)["pass"] == 40


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gain_near_one_without_a_gradient(dtype):
    def draw(rng):
        gain = (1 + 0.02 * rng.standard_normal(5)).astype(dtype)
        return [rng.standard_normal((6, 5)).astype(dtype), gain]

    def f(x, gain):
        return (x * gain) ** 2

    def vjp(d, x, gain):
        return 2 * d * x * gain**2, np.zeros_like(gain)

    counts = outcomes(f, vjp, draw)
    assert counts["fail"] == 40, counts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [2, 0.5])
def test_a_mean_square_of_a_far_target(factor, dtype):
    def draw(rng):
        x = rng.standard_normal((3, 4)).astype(dtype)
        return [x, (x + 10 + rng.standard_normal((3, 4))).astype(dtype)]

    def f(x, t):
        return ((x - t) ** 2).mean()

    def vjp(d, x, t):
        dx = (2 * d * (x - t) / x.size).astype(x.dtype)
        return dx * x.dtype.type(factor), -dx

    counts = outcomes(f, vjp, draw)
    assert counts["fail"] >= 38, counts
    assert counts["pass"] == 0, counts


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_a_tenth_of_a_loss_in_float32(factor):
    """One number comes out, so that every look is through the same upstream gradient."""
    targets = np.arange(4) % 7

    def draw(rng):
        return [rng.standard_normal((4, 7)).astype(np.float32)]

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def f(x):
        return -np.log(softmax(x)[np.arange(4), targets]).mean()

    def vjp(d, x):
        dx = softmax(x)
        dx[np.arange(4), targets] -= 1
        return (factor * d * dx / 4).astype(np.float32)

    counts = outcomes(f, vjp, draw)
    assert counts["pass"] <= 1, counts


def test_a_wrong_gradient_of_small_values_is_no_zero():
    def draw(rng):
        return [1e-4 * rng.standard_normal((1, 4)), 1e-3 * rng.standard_normal((1, 4))]

    def f(x, t):
        return ((x - t) ** 2).mean()

    for seed in range(20):
        args = [a.astype(np.float32) for a in draw(np.random.default_rng([7, seed]))]

        def vjp(d, x, t):
            dx = (2 * d * (x - t) / x.size).astype(np.float32)
            return -dx, -dx

        report = check_function(f, vjp, args, seed=seed, allow_zero=True, diagnose=False)
        assert report.verdict != "pass"


def test_infinite_gradients_of_infinite_outputs_are_inconclusive():
    with np.errstate(all="ignore"):
        for f, slope in (
            (np.log, lambda x: 1 / x),
            (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
            (lambda x: 1 / x, lambda x: -1 / x**2),
        ):
            x = np.array([0.0, 1.0, 2.0])
            report = check_vjp(lambda x, f=f: (f(x), x), lambda d, x, s=slope: d * s(x), [x])
            assert report.verdict == "inconclusive"
            assert report.leaves[0].reason == "not finite"


def test_a_gradient_that_is_not_finite_where_forward_is_fails():
    def backward(dout, x):
        with np.errstate(all="ignore"):
            return dout * 2 * x * (x / x)

    assert check_vjp(lambda x: (x * x, x), backward, [np.array([0.0, 1.0])]).verdict == "fail"


def test_no_warning_of_ours_reaches_the_caller():
    """pytest runs with warnings as errors."""
    for seed in range(20):
        check_vjp(
            lambda x: (np.tanh(30 * x), x),
            lambda d, x: 60 * d * (1 - np.tanh(30 * x) ** 2),
            [np.zeros(4)],
            seed=seed,
            diagnose=False,
        )
        check_vjp(
            lambda x: (np.tanh(x / 1e160), x), lambda d, x: d, [1e160 * np.ones(3)], seed=seed
        )

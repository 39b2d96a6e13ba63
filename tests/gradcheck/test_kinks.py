"""Where a function has no derivative a right backward must not fail, and a wrong one still does."""

import numpy as np
import pytest

from minillm.gradcheck import check_function

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
SEEDS = range(5)


def verdicts(f, vjp, *args):
    return {check_function(f, vjp, args, seed=seed, diagnose=False).verdict for seed in SEEDS}


def assert_told_apart(f, vjp, *args, doubt=()):
    """The right one passes; the same with one argument's gradient 5 % too large fails."""
    assert verdicts(f, vjp, *args) - {*doubt} == {"pass"}

    def wrong(d, *args):
        found = vjp(d, *args)
        found = found if isinstance(found, tuple) else (found,)
        return ((1.05 * found[0]).astype(found[0].dtype), *found[1:])

    assert verdicts(f, wrong, *args) - {*doubt} == {"fail"}


@DTYPES
def test_kinks_that_hide_each_other_behind_a_sum(dtype):
    w = np.array([1.0, -1.3, 0.8, -0.6, 2.0, 1.1], dtype)
    x = np.array([0, 0, 0, 0, 0, 1], dtype)
    # the right gradient at a kink is any of its slopes; 5 % more is wrong where there is none
    assert_told_apart(lambda x: (w * np.maximum(x, -x / 2)).sum(), _slope(w), x)


def _slope(w):
    return lambda d, x: (d * w * np.where(x > 0, 1, -0.5)).astype(x.dtype)


@DTYPES
def test_a_tie_of_three_looks_straight_along_a_line(dtype):
    def vjp(d, x):
        dx = np.zeros_like(x)
        dx[np.argsort(x, kind="stable")[2]] = d
        return dx

    x = np.array([2, 1, 2, 2, 3], dtype)
    assert_told_apart(lambda x: np.sort(x)[2], vjp, x)


@DTYPES
@pytest.mark.parametrize("edge", [0.0, 0.3])
def test_a_jump_at_the_point(dtype, edge):
    x = np.array([edge, 1.7, -0.6, 0.9], dtype)
    assert_told_apart(lambda x: np.sign(x) + np.sin(x), lambda d, x: d * np.cos(x), x)


def test_a_staircase_has_no_gradient_to_confirm():
    x = np.array([2.0, 2.1, -1.9, 0.4])
    report = check_function(np.floor, lambda d, x: 0 * d, (x,))
    assert report.verdict == "inconclusive"


@DTYPES
def test_elements_of_unlike_size(dtype):
    size = np.array([1e4, 1e-3, 1, 1e-4, 30], dtype)
    x = (size * np.array([1.1, 0.4, 2.0, 0.7, 2.5])).astype(dtype)
    doubt = ["inconclusive"] if dtype == "float32" else []  # along some directions
    assert_told_apart(lambda x: np.sin(x / size), _scaled(size), x, doubt=doubt)


def _scaled(size):
    return lambda d, x: d * np.cos(x / size) / size


def test_an_input_that_forward_rounds_away():
    x = np.array([[0.3, -0.2], [0.9, 0.1]])
    mask = np.array([[0.0, 0.0], [-1e9, -1e9]])

    def f(x):
        e = np.exp(x + mask - (x + mask).max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def vjp(d, x):
        y = f(x)
        return y * (d - (d * y).sum(-1, keepdims=True))

    assert "fail" not in verdicts(f, vjp, x)
    assert "pass" not in verdicts(f, lambda d, x: 1.05 * vjp(d, x), x)
    assert "fail" in verdicts(f, lambda d, x: -vjp(d, x), x)


@DTYPES
def test_no_step_far_beyond_the_values_decides(dtype):
    a, b = np.array([0.3, -0.8, 1.1], dtype), np.array([0.2, 1.5, -0.4], dtype)
    small = 1e-6

    def vjp(d, a, b):
        return 2 * d * a, d * small * np.cos(b)

    assert "fail" not in verdicts(lambda a, b: a * a + small * np.sin(b), vjp, a, b)

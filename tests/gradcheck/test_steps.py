import numpy as np
import pytest

from minillm.gradcheck.problem import Problem, scale_of
from minillm.gradcheck.steps import Line, default_rtol, length


def line_of(f, x, index=0, direction=None, **others):
    """A line through x of a function without a backward."""
    problem = Problem(lambda *a: (f(*a), None), lambda dout, cache: None, [x, *others.values()])
    problem.start()
    shape = problem.leaves[index].value.shape
    return Line(problem, index, np.ones(shape) if direction is None else direction)


@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_slope_at_the_first_step(dtype, digits):
    x = np.linspace(0.5, 2, 7).astype(dtype)
    line = line_of(np.sin, x)
    slope = line.pair(line.first).slope
    assert np.max(np.abs(slope - np.cos(x))) < digits


def test_direction_is_the_one_that_was_gone_in_spite_of_rounding():
    """At 1e6 a float32 step of 0.03 is rounded to 0 or 0.0625."""
    x = np.full(5, 1e6, np.float32) + np.arange(5, dtype=np.float32)
    line = line_of(lambda x: x, x, direction=np.array([1, 0.7, -0.6, 1.3, -1]))
    pair = line.pair(0.1)
    assert np.array_equal(pair.direction, pair.slope)
    assert not np.allclose(pair.direction, line.direction, rtol=1e-2)


def test_one_pair_costs_two_evaluations_however_often_it_is_asked_for():
    line = line_of(np.tanh, np.ones((4, 5)))
    before = line.problem.evaluations
    line.pair(1e-3), line.pair(1e-3)
    assert line.problem.evaluations == before + 2


@pytest.mark.parametrize("sigma", [1e-10, 1e-7])
def test_noise_is_measured(sigma):
    """A function that is right to `sigma` only, where the outputs' own precision is 1e-16."""

    def rough(x):
        bits = np.frombuffer(np.sin(1e7 * x).tobytes(), np.uint64)
        return np.sin(x) + sigma * (bits % 1000 / 1000 - 0.5) * np.sqrt(12)

    line = line_of(rough, np.random.default_rng(0).standard_normal(400))
    for h in (1e-4, 1e-7, 1e-9):
        line.pair(h)
    cotangent = np.random.default_rng(1).standard_normal(400)
    expected = sigma * length(cotangent) / np.sqrt(2)  # of half the difference of two
    assert 0.8 < line.measured_noise(cotangent) / expected < 1.25


def test_noise_of_an_exact_function_is_its_outputs_precision():
    line = line_of(lambda x: 2 * x, np.ones(9))
    line.pair(line.first)
    assert line.measured_noise(np.ones(9)) == pytest.approx(line.eps * 6)


def test_kinks_keep_their_bend_and_curves_lose_it():
    x = np.array([0.0, 1.0])
    line = line_of(lambda x: np.array([np.abs(x[0]), x[1] ** 2]), x)
    coarse, fine = line.pair(1e-3), line.pair(1e-6)
    assert coarse.bends() == pytest.approx([2, 2e-3])
    assert fine.bends() == pytest.approx([2, 2e-6], rel=1e-3)


def test_still_falling_until_only_rounding_is_left():
    line = line_of(np.exp, np.linspace(-1, 1, 50))
    cotangent = np.ones(50)
    line.pair(1e-2), line.pair(1e-3)
    assert line.still_falling(cotangent)
    line.pair(1e-9), line.pair(1e-10)
    assert not line.still_falling(cotangent)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.array([3.0, -3.0]), 3),
        (np.array(-4.0), 4),
        (np.full(6, 0.1), 0.1),
        (1e8 + np.array([1.0, -1.0]), 1),
        (np.zeros((0, 3)), 1),
        (np.zeros(3), 1),
    ],
)
def test_scale_is_that_of_the_spread(values, scale):
    assert scale_of(values) == pytest.approx(scale)


def test_a_leaf_of_zeros_borrows_the_scale_of_the_others():
    x = 1e-8 * np.array([1.0, -1.0])
    line = line_of(lambda x, b: x + b, x, index=1, b=np.zeros(2))
    assert line.first == pytest.approx(1e-8 * line.eps ** (1 / 3))


@pytest.mark.parametrize("size", [1e300, 1e-300, 1.0])
def test_length_neither_overflows_nor_vanishes(size):
    assert length(size * np.array([3.0, 4.0])) == pytest.approx(5 * size)


def test_length_of_nothing_and_of_infinity():
    assert length(np.empty(0)) == 0
    assert length(np.array([1, np.inf])) == np.inf


def test_tolerance_comes_from_the_precision():
    assert default_rtol(np.float64) == pytest.approx(1.49e-7, rel=1e-2)
    assert default_rtol(np.float32) == pytest.approx(3.45e-3, rel=1e-2)


def test_infinite_outputs_are_seen():
    line = line_of(np.sqrt, np.array([1e-3, 1.0]))
    assert not line.pair(0.1).finite
    assert line.pair(1e-5).finite

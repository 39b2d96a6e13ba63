import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.softmax import softmax
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    return (3 * randn(rng_of("softmax", shape, seed), *shape),)


@given(shape=shapes(), data=st.data(), seed=seeds)
def test_agrees_with_both_oracles(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_op(
        softmax,
        case(shape, seed),
        {"axis": axis},
        oracle=lambda x: torch.softmax(x, axis),
        seed=seed,
    )


def diagonal_alone(dy, cache):
    y, _ = cache
    return dy * y * (1 - y)


def sum_held_constant(dy, cache):
    y, _ = cache
    return dy * y


def mean_for_the_sum(dy, cache):
    y, axis = cache
    return y * (dy - (dy * y).mean(axis, keepdims=True))


def summed_over_another_axis(dy, cache):
    y, _ = cache
    return y * (dy - (dy * y).sum(0, keepdims=True))


def summed_without_probabilities(dy, cache):
    y, axis = cache
    return y * (dy - dy.sum(axis, keepdims=True))


def all_zeros(dy, cache):
    # Where the upstream gradient is constant this is right: why the harness draws a random one.
    return np.zeros_like(dy)


@wrong_backwards(
    {
        f.__name__: f
        for f in (
            diagonal_alone,
            sum_held_constant,
            mean_for_the_sum,
            summed_over_another_axis,
            summed_without_probabilities,
            all_zeros,
        )
    }
)
def test_kills(wrong):
    assert_killed(softmax, wrong, case((3, 4), 1))


@on_each_backend
def test_huge_scores(backend):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4], [1e4, 0, -1e4]])
    with minillm.backend(backend):
        y, cache = softmax(x)
        dx = softmax.backward(np.arange(9.0).reshape(3, 3), cache)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(y, [[p, 1 - p, 0], [1 / 3] * 3, [1, 0, 0]], rtol=8 * EPS, atol=0)
    slope = p * (1 - p)
    expected = [[-slope, slope, 0], [-1 / 3, 0, 1 / 3], [0, 0, 0]]
    np.testing.assert_allclose(dx, expected, rtol=0, atol=32 * EPS)


@on_each_backend
def test_masked_entries_and_rows(backend):
    inf = np.inf
    with minillm.backend(backend):
        y, cache = softmax(np.array([[0.0, -inf, 0.0], [-inf, -inf, -inf]]))
        dx = softmax.backward(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), cache)
    assert np.array_equal(y, [[0.5, 0, 0.5], [0, 0, 0]])
    assert np.array_equal(dx, [[-0.5, 0, 0.5], [0, 0, 0]])


@on_each_backend
def test_no_rows(backend):
    with minillm.backend(backend):
        y, cache = softmax(np.ones((0, 3)))
        assert softmax.backward(y, cache).shape == (0, 3)


@on_each_backend
def test_an_axis_that_is_not_there(backend):
    with minillm.backend(backend), pytest.raises(ValueError, match="axis 2 is out of bounds"):
        softmax(np.ones((2, 3)), axis=2)

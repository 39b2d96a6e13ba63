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


def test_every_element_agrees_with_differences():
    check_op(softmax, case((3, 4), 1), scope="full")


@wrong_backwards("softmax")
def test_kills(wrong):
    assert_killed(wrong)


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

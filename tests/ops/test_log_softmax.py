import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.log_softmax import log_softmax
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    return (3 * randn(rng_of("log_softmax", shape, seed), *shape),)


@given(shape=shapes(), data=st.data(), seed=seeds)
def test_agrees_with_both_oracles(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_op(
        log_softmax,
        case(shape, seed),
        {"axis": axis},
        oracle=lambda x: torch.log_softmax(x, axis),
        seed=seed,
    )


def test_every_element_agrees_with_differences():
    check_op(log_softmax, case((3, 4), 1), scope="full")


@wrong_backwards("log_softmax")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_huge_scores(backend):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4]])
    with minillm.backend(backend):
        y, cache = log_softmax(x)
        dx = log_softmax.backward(np.ones((2, 3)), cache)
    total = np.log1p(np.exp(-1))
    expected = [[-total, -1 - total, -2e4 - total], [-np.log(3)] * 3]
    np.testing.assert_allclose(y, expected, rtol=8 * EPS, atol=0)
    p = 1 / (1 + np.exp(-1))
    expected = [[1 - 3 * p, 1 - 3 * (1 - p), 1], [0, 0, 0]]
    np.testing.assert_allclose(dx, expected, rtol=0, atol=16 * EPS)


@on_each_backend
def test_masked_entries_and_rows(backend):
    inf = np.inf
    with minillm.backend(backend):
        y, cache = log_softmax(np.array([[0.0, -inf, 0.0], [-inf, -inf, -inf]]))
        dx = log_softmax.backward(np.ones((2, 3)), cache)
    assert np.array_equal(y[1], [-inf, -inf, -inf])
    assert y[0, 1] == -inf
    np.testing.assert_allclose(y[0, ::2], -np.log(2), rtol=2 * EPS)
    np.testing.assert_allclose(dx, [[-0.5, 1, -0.5], [1, 1, 1]], rtol=4 * EPS)


@on_each_backend
def test_an_axis_that_is_not_there(backend):
    with minillm.backend(backend), pytest.raises(ValueError, match="axis 2 is out of bounds"):
        log_softmax(np.ones((2, 3)), axis=2)

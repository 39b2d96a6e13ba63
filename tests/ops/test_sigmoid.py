import math

import numpy as np
import torch
from hypothesis import given

import minillm
from minillm.ops.sigmoid import sigmoid
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    return (np.asarray(3 * randn(rng_of("sigmoid", shape, seed), *shape)),)


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(sigmoid, case(shape, seed), oracle=torch.sigmoid, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(sigmoid, case((3, 4), 1), scope="full")


@wrong_backwards("sigmoid")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_far_out_is_finite_and_right(backend):
    x = np.array([-1e4, -700.0, -40.0, 0.0, 40.0, 700.0, 1e4])
    with minillm.backend(backend):
        y, cache = sigmoid(x)
        dx = sigmoid.backward(np.ones_like(x), cache)
    # Relative, also where the value is tiny; beyond 1e-308 it is 0.
    expected = [0, math.exp(-700), math.exp(-40), 0.5, 1, 1, 1]
    np.testing.assert_allclose(y, expected, rtol=4 * EPS, atol=0)
    np.testing.assert_allclose(dx[:4], [0, math.exp(-700), math.exp(-40), 0.25], rtol=8 * EPS)
    assert np.all(dx[4:] <= EPS)
    assert np.all(np.isfinite(dx))


@on_each_backend
def test_symmetric(backend):
    x = randn(rng_of("symmetric"), 100)
    with minillm.backend(backend):
        np.testing.assert_allclose(sigmoid(x)[0] + sigmoid(-x)[0], 1, rtol=2 * EPS)

import numpy as np
import torch
from hypothesis import given

import minillm
from minillm.ops.relu import relu
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    x = randn(rng_of("relu", shape, seed), *shape)
    # Central differences step over the kink from either side of 0: keep away from it.
    return (np.asarray(np.where(x < 0, x - 0.1, x + 0.1)),)


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(relu, case(shape, seed), oracle=torch.relu, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(relu, case((3, 4), 1), scope="full")


@wrong_backwards("relu")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_gradient_at_zero_is_zero(backend):
    x = np.array([-0.0, 0.0, -1e-300, 1e-300, -1e4, 1e4])
    with minillm.backend(backend):
        y, cache = relu(x)
        dx = relu.backward(np.full(6, 5.0), cache)
    assert np.array_equal(y, [0, 0, 0, 1e-300, 0, 1e4])
    assert np.array_equal(dx, [0, 0, 0, 5, 0, 5])

import numpy as np
import torch
from hypothesis import given

import minillm
from minillm.ops.tanh import tanh
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    return (np.asarray(2 * randn(rng_of("tanh", shape, seed), *shape)),)


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(tanh, case(shape, seed), oracle=torch.tanh, seed=seed)


def square_forgotten(dy, y):
    return dy * (1 - y)


def squashed_twice(dy, y):
    return dy * (1 - np.tanh(y) ** 2)


def slope_of_sigmoid(dy, y):
    return dy * y * (1 - y)


@wrong_backwards({f.__name__: f for f in (square_forgotten, squashed_twice, slope_of_sigmoid)})
def test_kills(wrong):
    assert_killed(tanh, wrong, case((2, 3), 1))


@on_each_backend
def test_far_out_is_flat(backend):
    with minillm.backend(backend):
        y, cache = tanh(np.array([-1e4, 1e4]))
        assert np.array_equal(y, [-1, 1])
        assert np.array_equal(tanh.backward(np.array([3.0, 4.0]), cache), [0, 0])

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


def test_every_element_agrees_with_differences():
    check_op(tanh, case((3, 4), 1), scope="full")


@wrong_backwards("tanh")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_far_out_is_flat(backend):
    with minillm.backend(backend):
        y, cache = tanh(np.array([-1e4, 1e4]))
        assert np.array_equal(y, [-1, 1])
        assert np.array_equal(tanh.backward(np.array([3.0, 4.0]), cache), [0, 0])

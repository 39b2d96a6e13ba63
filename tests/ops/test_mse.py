import numpy as np
import pytest
import torch
from hypothesis import given

import minillm
from minillm.ops.mse import mse
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    rng = rng_of("mse", shape, seed)
    return np.asarray(randn(rng, *shape)), np.asarray(randn(rng, *shape) + 1)


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(mse, case(shape, seed), oracle=torch.nn.functional.mse_loss, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(mse, case((2, 3), 1), scope="full")


@wrong_backwards("mse")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_nothing_to_compare(backend):
    with minillm.backend(backend):
        loss, cache = mse(np.ones((0, 3), np.float32), np.ones((0, 3), np.float32))
        assert loss == 0
        assert loss.dtype == np.float32
        assert [d.shape for d in mse.backward(1.0, cache)] == [(0, 3), (0, 3)]


@on_each_backend
def test_a_shape_that_would_broadcast_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match=r"target must have shape \(3, 1\), got \(3,\)"),
    ):
        mse(np.ones((3, 1)), np.ones(3))

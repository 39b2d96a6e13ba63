import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.rms_norm import rms_norm
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards

LARGE_EPS = 0.1


def case(shape, seed):
    rng = rng_of("rms_norm", shape, seed)
    return 3 * randn(rng, *shape) + 1, randn(rng, shape[-1])


@given(shape=shapes(), eps=st.sampled_from([1e-5, LARGE_EPS]), seed=seeds)
def test_agrees_with_both_oracles(shape, eps, seed):
    def oracle(x, gain):
        return torch.nn.functional.rms_norm(x, shape[-1:], gain, eps)

    check_op(rms_norm, case(shape, seed), {"eps": eps}, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(rms_norm, case((2, 3, 5), 1), scope="full")


@wrong_backwards("rms_norm")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_row_of_zeros_stays_finite(backend):
    with minillm.backend(backend):
        y, cache = rms_norm(np.zeros((2, 4)), np.full(4, 2.0), eps=1e-4)
        dx, dgain = rms_norm.backward(np.ones((2, 4)), cache)
    assert np.array_equal(y, np.zeros((2, 4)))
    assert np.array_equal(dgain, np.zeros(4))
    np.testing.assert_allclose(dx, 200, rtol=4 * EPS)


@on_each_backend
def test_eps_unless_told(backend):
    x, gain = np.full((1, 2), 1e-3), np.ones(2)
    with minillm.backend(backend):
        assert np.array_equal(rms_norm(x, gain)[0], rms_norm(x, gain, eps=1e-5)[0])


@on_each_backend
def test_no_rows(backend):
    with minillm.backend(backend):
        y, cache = rms_norm(np.ones((0, 4)), np.ones(4))
        dx, dgain = rms_norm.backward(y, cache)
    assert dx.shape == (0, 4)
    assert np.array_equal(dgain, np.zeros(4))


@on_each_backend
def test_wrong_shape_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match=r"gain must have shape \(4,\), got \(1,\)"),
    ):
        rms_norm(np.ones((2, 4)), np.ones(1))

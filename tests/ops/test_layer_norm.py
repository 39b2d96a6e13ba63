import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.layer_norm import layer_norm
from tests.ops.draw import seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards

LARGE_EPS = 0.1


def case(shape, seed):
    rng = rng_of("layer_norm", shape, seed)
    width = shape[-1]
    return 3 * randn(rng, *shape) + 1, randn(rng, width), randn(rng, width)


@given(shape=shapes(), eps=st.sampled_from([1e-5, LARGE_EPS]), seed=seeds)
def test_agrees_with_both_oracles(shape, eps, seed):
    def oracle(x, gain, bias):
        return torch.nn.functional.layer_norm(x, shape[-1:], gain, bias, eps)

    check_op(layer_norm, case(shape, seed), {"eps": eps}, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(layer_norm, case((2, 3, 5), 1), scope="full")


@wrong_backwards("layer_norm")
def test_kills(wrong):
    assert_killed(wrong)


def test_constant_row_stays_finite():
    x = np.full((2, 4), 7.0)
    y, cache = layer_norm(x, np.ones(4), np.full(4, 0.5))
    dx, _, _ = layer_norm.backward(np.arange(8.0).reshape(2, 4), cache)
    assert np.all(y == 0.5)
    assert np.all(np.isfinite(dx))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"gain must have shape \(4,\), got \(3,\)"):
        layer_norm(np.ones((2, 4)), np.ones(3), np.ones(4))

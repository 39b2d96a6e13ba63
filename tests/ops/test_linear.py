import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.linear import linear
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(leading, c_in, c_out, with_bias, seed):
    rng = rng_of("linear", leading, c_in, c_out, seed)
    bias = randn(rng, c_out) if with_bias else None
    return randn(rng, *leading, c_in), randn(rng, c_in, c_out), bias


def oracle(x, weight, bias):
    y = (x.unsqueeze(-1) * weight).sum(-2)
    return y if bias is None else y + bias


@given(shape=shapes(2, 4), with_bias=st.booleans(), seed=seeds)
def test_agrees_with_both_oracles(shape, with_bias, seed):
    *leading, c_in, c_out = shape
    check_op(linear, case(leading, c_in, c_out, with_bias, seed), oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(linear, case((2, 4), 3, 5, True, 1), scope="full")


@wrong_backwards("linear")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_no_rows(backend):
    with minillm.backend(backend):
        y, cache = linear(np.ones((0, 2, 3)), np.ones((3, 4)), np.ones(4))
        dx, dweight, dbias = linear.backward(y, cache)
    assert y.shape == (0, 2, 4)
    assert dx.shape == (0, 2, 3)
    assert np.array_equal(dweight, np.zeros((3, 4)))
    assert np.array_equal(dbias, np.zeros(4))


@on_each_backend
def test_no_bias_has_no_gradient(backend):
    with minillm.backend(backend):
        y, cache = linear(np.ones((2, 3)), np.ones((3, 4)))
        assert linear.backward(y, cache)[2] is None


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        ((2, 3), (4, 3), None, r"weight must have shape \(3, any\), got \(4, 3\)"),
        ((2, 3), (3,), None, r"weight must have shape \(3, any\), got \(3,\)"),
        ((2, 3), (3, 4), (1, 4), r"bias must have shape \(4,\), got \(1, 4\)"),
        ((2, 3), (3, 4), (1,), r"bias must have shape \(4,\), got \(1,\)"),
        ((), (3, 4), None, "weight must have shape"),
    ],
)
@on_each_backend
def test_wrong_shapes_are_named(x, weight, bias, message, backend):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        linear(np.ones(x), np.ones(weight), None if bias is None else np.ones(bias))

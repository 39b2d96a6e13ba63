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


def weight_not_transposed(dy, cache):
    x, weight, _ = cache
    return dy @ weight, x.reshape(-1, 3).T @ dy.reshape(-1, 3), dy.sum((0, 1))


def weight_gradient_transposed(dy, cache):
    x, weight, _ = cache
    return dy @ weight.T, dy.reshape(-1, 3).T @ x.reshape(-1, 3), dy.sum((0, 1))


def averaged_over_the_batch(dy, cache):
    x, weight, _ = cache
    dweight = (x.transpose(0, 2, 1) @ dy).mean(0)
    return dy @ weight.T, dweight, dy.sum((0, 1))


def bias_from_the_last_row(dy, cache):
    x, weight, _ = cache
    return dy @ weight.T, x.reshape(-1, 3).T @ dy.reshape(-1, 3), dy[-1, -1]


@wrong_backwards(
    {
        f.__name__: f
        for f in (
            weight_not_transposed,
            weight_gradient_transposed,
            averaged_over_the_batch,
            bias_from_the_last_row,
        )
    }
)
def test_kills(wrong):
    # Square, since in another shape NumPy itself refuses the first two.
    assert_killed(linear, wrong, case((2, 4), 3, 3, True, 1))


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

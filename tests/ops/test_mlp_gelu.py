import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.mlp_gelu import mlp_gelu
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards

forms = st.sampled_from(["none", "tanh"])


def case(leading, widths, with_biases, seed):
    rng = rng_of("mlp_gelu", leading, widths, seed)
    c_in, wide, c_out = widths
    up, down = randn(rng, c_in, wide), randn(rng, wide, c_out)
    bias_up, bias_down = (
        randn(rng, n) if given else None
        for n, given in zip((wide, c_out), with_biases, strict=True)
    )
    return randn(rng, *leading, c_in), up, bias_up, down, bias_down


@given(
    shape=shapes(3, 4, 4),
    with_biases=st.tuples(st.booleans(), st.booleans()),
    approximate=forms,
    seed=seeds,
)
def test_agrees_with_both_oracles(shape, with_biases, approximate, seed):
    def oracle(x, up, bias_up, down, bias_down):
        wide = x @ up if bias_up is None else x @ up + bias_up
        y = torch.nn.functional.gelu(wide, approximate=approximate) @ down
        return y if bias_down is None else y + bias_down

    args = case(shape[:-3], shape[-3:], with_biases, seed)
    check_op(mlp_gelu, args, {"approximate": approximate}, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(mlp_gelu, case((2,), (3, 4, 5), (True, True), 1), scope="full")


@wrong_backwards("mlp_gelu")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_tanh_form_unless_told(backend):
    args = case((2,), (3, 4, 5), (True, True), 1)
    with minillm.backend(backend):
        unsaid, tanh, erf = (
            mlp_gelu(*args, **kwargs)[0]
            for kwargs in ({}, {"approximate": "tanh"}, {"approximate": "none"})
        )
    assert np.array_equal(unsaid, tanh)
    assert not np.array_equal(unsaid, erf)


@on_each_backend
def test_no_rows(backend):
    args = case((0, 2), (3, 4, 5), (True, True), 1)
    with minillm.backend(backend):
        y, cache = mlp_gelu(*args)
        grads = mlp_gelu.backward(y, cache)
    assert y.shape == (0, 2, 5)
    for grad, arg in zip(grads, args, strict=True):
        assert np.array_equal(grad, np.zeros_like(arg))


@pytest.mark.parametrize(
    ("which", "shape", "message"),
    [
        (1, (4, 3), r"weight_up must have shape \(3, any\), got \(4, 3\)"),
        (2, (1,), r"bias_up must have shape \(4,\), got \(1,\)"),
        (3, (5, 4), r"weight_down must have shape \(4, any\), got \(5, 4\)"),
        (4, (1, 5), r"bias_down must have shape \(5,\), got \(1, 5\)"),
    ],
)
@on_each_backend
def test_wrong_shapes_are_named(which, shape, message, backend):
    args = list(case((2,), (3, 4, 5), (True, True), 1))
    args[which] = np.ones(shape)
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        mlp_gelu(*args)


@on_each_backend
def test_another_form_is_named(backend):
    args = case((2,), (3, 4, 5), (True, True), 1)
    with minillm.backend(backend), pytest.raises(ValueError, match="approximate must be 'none' or"):
        mlp_gelu(*args, approximate="erf")

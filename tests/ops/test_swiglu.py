import numpy as np
import pytest
import torch
from hypothesis import given

import minillm
from minillm.ops.swiglu import swiglu
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(leading, widths, seed):
    rng = rng_of("swiglu", leading, widths, seed)
    c_in, wide, c_out = widths
    gate, up, down = randn(rng, c_in, wide), randn(rng, c_in, wide), randn(rng, wide, c_out)
    return randn(rng, *leading, c_in), gate, up, down


def oracle(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down


@given(shape=shapes(3, 4, 4), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(swiglu, case(shape[:-3], shape[-3:], seed), oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(swiglu, case((2,), (3, 4, 5), 1), scope="full")


@wrong_backwards("swiglu")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_no_rows(backend):
    args = case((0, 2), (3, 4, 5), 1)
    with minillm.backend(backend):
        y, cache = swiglu(*args)
        grads = swiglu.backward(y, cache)
    assert y.shape == (0, 2, 5)
    for grad, arg in zip(grads, args, strict=True):
        assert np.array_equal(grad, np.zeros_like(arg))


@pytest.mark.parametrize(
    ("which", "shape", "message"),
    [
        (1, (4, 3), r"weight_gate must have shape \(3, any\), got \(4, 3\)"),
        (2, (3, 1), r"weight_up must have shape \(3, 4\), got \(3, 1\)"),
        (3, (5, 4), r"weight_down must have shape \(4, any\), got \(5, 4\)"),
    ],
)
@on_each_backend
def test_wrong_shapes_are_named(which, shape, message, backend):
    args = list(case((2,), (3, 4, 5), 1))
    args[which] = np.ones(shape)
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        swiglu(*args)

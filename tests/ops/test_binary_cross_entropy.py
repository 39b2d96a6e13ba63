import numpy as np
import pytest
import torch
from hypothesis import given

import minillm
from minillm.ops.binary_cross_entropy import binary_cross_entropy
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    rng = rng_of("binary_cross_entropy", shape, seed)
    return (np.asarray(2 * randn(rng, *shape)),), {"targets": np.asarray(rng.random(shape))}


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    args, kwargs = case(shape, seed)
    targets = torch.tensor(kwargs["targets"])
    check_op(
        binary_cross_entropy,
        args,
        kwargs,
        oracle=lambda x: torch.nn.functional.binary_cross_entropy_with_logits(x, targets),
        seed=seed,
    )


def test_every_element_agrees_with_differences():
    check_op(binary_cross_entropy, *case((2, 3), 1), scope="full")


@wrong_backwards("binary_cross_entropy")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
@pytest.mark.parametrize("kind", [bool, np.int64, np.uint8, np.float32])
def test_yes_and_no_of_any_type(backend, kind):
    logits = np.array([1.0, -2.0], np.float32)
    with minillm.backend(backend):
        loss, cache = binary_cross_entropy(logits, targets=np.array([1, 0], kind))
        dlogits = binary_cross_entropy.backward(1.0, cache)
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(-2))) / 2
    np.testing.assert_allclose(loss, expected, rtol=4 * np.finfo(np.float32).eps)
    assert loss.dtype == dlogits.dtype == np.float32


@on_each_backend
def test_huge_logits(backend):
    logits = np.array([1e4, 1e4, -1e4, -1e4])
    with minillm.backend(backend):
        loss, cache = binary_cross_entropy(logits, targets=np.array([1, 0, 1, 0]))
        dlogits = binary_cross_entropy.backward(4.0, cache)
    assert loss == 5e3
    np.testing.assert_allclose(dlogits, [0, 1, -1, 0], atol=EPS)


@on_each_backend
def test_a_certain_answer_costs_next_to_nothing(backend):
    with minillm.backend(backend):
        loss, _ = binary_cross_entropy(np.array([50.0, -50.0]), targets=np.array([1, 0]))
    np.testing.assert_allclose(loss, np.exp(-50), rtol=8 * EPS)


@on_each_backend
def test_wrong_shape_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match=r"targets must have shape \(3, 1\), got \(3,\)"),
    ):
        binary_cross_entropy(np.ones((3, 1)), targets=np.ones(3))

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.cross_entropy import cross_entropy
from minillm.ops.linear import linear
from minillm.ops.linear_cross_entropy import linear_cross_entropy
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import (
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


def case(leading, width, n_vocab, with_bias, seed):
    rng = rng_of("linear_cross_entropy", leading, width, n_vocab, seed)
    targets = rng.integers(0, n_vocab, leading)
    if targets.size > 1:
        targets.flat[rng.integers(targets.size)] = -100
    bias = randn(rng, n_vocab) if with_bias else None
    return (randn(rng, *leading, width), randn(rng, n_vocab, width), bias), targets


@given(
    shape=shapes(3, 4, 5),
    with_bias=st.booleans(),
    label_smoothing=st.sampled_from([0.0, 0.2]),
    seed=seeds,
)
def test_agrees_with_both_oracles(shape, with_bias, label_smoothing, seed):
    *leading, width, n_vocab = shape
    args, targets = case(tuple(leading), width, n_vocab, with_bias, seed)

    def oracle(x, weight, bias):
        logits = torch.nn.functional.linear(x, weight, bias).reshape(-1, n_vocab)
        return torch.nn.functional.cross_entropy(
            logits, torch.tensor(targets).reshape(-1), label_smoothing=label_smoothing
        )

    kwargs = {"targets": targets, "label_smoothing": label_smoothing}
    # Of a single token the loss is 0 whatever its logit. What the fast backend leaves of that is
    # rounding of rounding, in which differences saw a slope in 1 case of 100.
    options = {"oracle": oracle, "seed": seed, "differences": n_vocab > 1}
    check_op(linear_cross_entropy, args, kwargs, **options)


def test_every_element_agrees_with_differences():
    args, targets = case((2, 3), 4, 5, True, 1)
    check_op(linear_cross_entropy, args, {"targets": targets}, scope="full")


@wrong_backwards("linear_cross_entropy")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_equals_its_parts(backend):
    (x, weight, bias), targets = case((3, 4), 5, 6, True, 2)
    with minillm.backend("numpy"):
        logits = linear(x, weight.T, bias)[0]
        expected = cross_entropy(logits, targets=targets, label_smoothing=0.1)[0]
    with minillm.backend(backend):
        loss = linear_cross_entropy(x, weight, bias, targets=targets, label_smoothing=0.1)[0]
    assert_close(loss, expected, ORACLE_TOL, "loss")


@on_each_backend
@pytest.mark.parametrize("leading", [(3, 4), (0, 4)])
def test_nothing_counts(leading, backend):
    args, _ = case(leading, 3, 5, True, 1)
    targets = np.full(leading, -1)
    with minillm.backend(backend):
        loss, cache = linear_cross_entropy(*args, targets=targets, ignore_index=-1)
        grads = linear_cross_entropy.backward(1.0, cache)
    assert loss == 0
    for grad, arg in zip(grads, args, strict=True):
        assert np.array_equal(grad, np.zeros_like(arg))


@on_each_backend
def test_huge_logits(backend):
    x, weight = np.array([[100.0, 0.0]]), np.array([[100.0, 1.0], [-100.0, 1.0], [0.0, 1.0]])
    for target, nats in ((0, 0.0), (1, 2e4), (2, 1e4)):
        with minillm.backend(backend):
            loss, cache = linear_cross_entropy(x, weight, targets=np.array([target]))
            dx, dweight, dbias = linear_cross_entropy.backward(1.0, cache)
        assert loss == nats
        assert dbias is None
        assert np.array_equal(dx, weight[:1] - weight[[target]])
        assert np.array_equal(dweight, (np.eye(3)[0] - np.eye(3)[target])[:, None] * x)


@pytest.mark.parametrize(
    ("weight", "bias", "targets", "message"),
    [
        ((4, 5), None, np.zeros((2, 3), int), r"weight must have shape \(any, 4\), got \(4, 5\)"),
        ((5, 4), (4,), np.zeros((2, 3), int), r"bias must have shape \(5,\), got \(4,\)"),
        ((5, 4), None, np.zeros(6, int), r"targets must have shape \(2, 3\), got \(6,\)"),
        ((5, 4), None, np.zeros((2, 3)), "targets must be an array of integers"),
    ],
)
@on_each_backend
def test_wrong_arguments_are_named(weight, bias, targets, message, backend):
    bias = None if bias is None else np.ones(bias)
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        linear_cross_entropy(np.ones((2, 3, 4)), np.ones(weight), bias, targets=targets)


@on_each_backend
def test_wrong_smoothing_is_named(backend):
    args, targets = case((2, 3), 4, 5, True, 1)
    with minillm.backend(backend), pytest.raises(ValueError, match="label_smoothing must be"):
        linear_cross_entropy(*args, targets=targets, label_smoothing=-0.1)

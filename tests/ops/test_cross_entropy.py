import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.cross_entropy import cross_entropy
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import (
    EPS,
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


def case(shape, seed, ignore_index=-100, ignored=0.3):
    rng = rng_of("cross_entropy", shape, seed)
    targets = rng.integers(0, shape[-1], shape[:-1])
    targets[rng.random(shape[:-1]) < ignored] = ignore_index
    return (2 * randn(rng, *shape),), targets


@given(
    shape=shapes(2, 3),
    ignore_index=st.sampled_from([-100, -1, 0]),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=seeds,
)
def test_agrees_with_both_oracles(shape, ignore_index, label_smoothing, seed):
    args, targets = case(shape, seed, ignore_index)

    def oracle(logits):
        rows, ids = logits.reshape(-1, shape[-1]), torch.tensor(targets).reshape(-1)
        total = torch.nn.functional.cross_entropy(
            rows, ids, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / (ids != ignore_index).sum().clamp(min=1)  # torch's own mean of none is NaN

    kwargs = {
        "targets": targets,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
    }
    check_op(cross_entropy, args, kwargs, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    args, targets = case((2, 3, 4), 1)
    check_op(cross_entropy, args, {"targets": targets, "label_smoothing": 0.2}, scope="full")


@wrong_backwards("cross_entropy")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
@pytest.mark.parametrize("shape", [(3, 4), (0, 4)])
def test_nothing_counts(shape, backend):
    targets = np.full(shape[:-1], -100)
    with minillm.backend(backend):
        loss, cache = cross_entropy(np.ones(shape, np.float32), targets=targets)
        dlogits = cross_entropy.backward(1.0, cache)
    assert loss == 0
    assert loss.dtype == np.float32
    assert np.array_equal(dlogits, np.zeros(shape))
    assert dlogits.dtype == np.float32


@on_each_backend
def test_huge_logits(backend):
    logits = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    targets = np.array([0, 1, 2])
    for dtype, eps in ((np.float64, EPS), (np.float32, np.finfo(np.float32).eps)):
        with minillm.backend(backend):
            loss, cache = cross_entropy(logits.astype(dtype), targets=targets)
            dlogits = cross_entropy.backward(3.0, cache)
        assert abs(loss - (2e4 + np.log(3)) / 3) <= 4 * eps * 2e4
        assert loss.dtype == dtype
        third = 1 / 3
        expected = [[0, 0, 0], [1, -1, 0], [third, third, third - 1]]
        np.testing.assert_allclose(dlogits, expected, rtol=0, atol=8 * eps)


@on_each_backend
def test_a_certain_token_costs_next_to_nothing(backend):
    with minillm.backend(backend):
        loss, _ = cross_entropy(np.array([[30.0, 0.0]]), targets=np.array([0]))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-30)), rtol=1e-2)


@on_each_backend
def test_an_excluded_token(backend):
    logits = np.array([[0.0, -np.inf, 0.0]])
    with minillm.backend(backend):
        loss, cache = cross_entropy(logits, targets=np.array([2]))
        dlogits = cross_entropy.backward(1.0, cache)
    np.testing.assert_allclose(loss, np.log(2), rtol=4 * EPS)
    np.testing.assert_allclose(dlogits, [[0.5, 0, -0.5]], atol=4 * EPS)


@on_each_backend
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_any_integer_serves(backend, dtype):
    (logits,), targets = case((5, 3), 1, ignored=0)
    with minillm.backend(backend):
        one, two = (cross_entropy(logits, targets=t) for t in (targets, targets.astype(dtype)))
        assert_close(two[0], one[0], 0, "loss")
        grads = [cross_entropy.backward(0.5, cache) for _, cache in (one, two)]
    assert_close(grads[1], grads[0], 0, "gradient")


@on_each_backend
def test_rows_are_weighed_alike(backend):
    """The mean over a batch is that of its halves, weighed by the tokens that count in them."""
    (logits,), targets = case((6, 4), 2)
    counts = [np.sum(t != -100) for t in (targets[:2], targets[2:])]
    with minillm.backend(backend):
        whole = cross_entropy(logits, targets=targets)[0]
        halves = [
            cross_entropy(x, targets=t)[0]
            for x, t in ((logits[:2], targets[:2]), (logits[2:], targets[2:]))
        ]
    assert_close(whole, np.dot(halves, counts) / sum(counts), ORACLE_TOL, "loss")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"targets": np.zeros((2, 3, 1), int)}, r"targets must have shape \(2, 3\), got \(2, 3, 1"),
        ({"targets": np.zeros(2, int)}, r"targets must have shape \(2, 3\), got \(2,\)"),
        ({"targets": np.zeros((2, 3))}, "targets must be an array of integers, got dtype float64"),
        (
            {"targets": np.zeros((2, 3), int), "label_smoothing": 1.5},
            "label_smoothing must be between 0 and 1, got 1.5",
        ),
    ],
)
@on_each_backend
def test_wrong_arguments_are_named(kwargs, message, backend):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        cross_entropy(np.ones((2, 3, 4)), **kwargs)

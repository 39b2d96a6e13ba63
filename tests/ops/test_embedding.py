import numpy as np
import pytest
import torch
from hypothesis import given

import minillm
from minillm.ops.embedding import embedding
from tests.ops.draw import on_each_backend, seeds, shapes, sizes
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards


def case(ids_shape, n_vocab, width, seed):
    rng = rng_of("embedding", ids_shape, n_vocab, width, seed)
    return (randn(rng, n_vocab, width),), {"ids": rng.integers(0, n_vocab, ids_shape)}


@given(ids_shape=shapes(0, 3), weight_shape=sizes(2, 7), seed=seeds)
def test_agrees_with_both_oracles(ids_shape, weight_shape, seed):
    args, kwargs = case(ids_shape, *weight_shape, seed)
    ids = torch.tensor(kwargs["ids"])
    check_op(
        embedding, args, kwargs, oracle=lambda w: torch.nn.functional.embedding(ids, w), seed=seed
    )


def test_every_element_agrees_with_differences():
    check_op(embedding, *case((2, 3), 4, 5, 1), scope="full")


@wrong_backwards("embedding")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_repeated_ids_add_up(backend, dtype):
    with minillm.backend(backend):
        _, cache = embedding(np.ones((3, 2)), ids=np.array([1, 1, 2, 1], dtype))
        dweight = embedding.backward(np.array([[1.0, 10], [2, 20], [4, 40], [8, 80]]), cache)
    assert np.array_equal(dweight, [[0, 0], [11, 110], [4, 40]])


@on_each_backend
def test_no_ids(backend):
    with minillm.backend(backend):
        y, cache = embedding(np.ones((3, 2)), ids=np.zeros((0, 4), np.int64))
        assert y.shape == (0, 4, 2)
        assert np.array_equal(embedding.backward(y, cache), np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.ones(2), "ids must be an array of integers, got dtype float64"),
        (np.ones(2, bool), "ids must be an array of integers, got dtype bool"),
        ([0, 1], "ids must be an array of integers, got list"),
    ],
)
@on_each_backend
def test_ids_that_are_no_integers_are_named(ids, message, backend):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        embedding(np.ones((3, 2)), ids=ids)


@on_each_backend
def test_wrong_shape_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match=r"weight must have shape \(any, any\), got \(3,\)"),
    ):
        embedding(np.ones(3), ids=np.zeros(2, np.int64))


def test_gradients_of_many_rows_are_added_in_pieces(monkeypatch):
    """More rows than the one-hot product takes, ids of a short dtype, pieces that end amid them."""
    from minillm.ops.fast import embedding as fast

    monkeypatch.setattr(fast, "PIECE", 30)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, fast.SMALL_VOCABULARY + 90, (7, 11)).astype(np.uint16)
    ids[:, :5] = 3
    weight, dy = np.zeros((fast.SMALL_VOCABULARY + 90, 4)), rng.standard_normal((7, 11, 4))
    _, cache = fast.embedding(weight, ids=ids)
    expected = np.zeros_like(weight)
    for where in np.ndindex(ids.shape):
        expected[ids[where]] += dy[where]
    np.testing.assert_allclose(fast.embedding_backward(dy, cache), expected, rtol=1e-12)

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.ops import embedding as op
from minillm_kernels.require import interpreted
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, sizes
from tests.ops.harness import check_op, rng_of

module = importlib.import_module("minillm_kernels.triton.embedding")
forward, backward = module.embedding, module.embedding_backward


def case(words, channels, shape, dtype="float32", seed=0):
    rng = rng_of("embedding", words, channels, shape, seed)
    return normal(rng, (words, channels), dtype), rng.integers(0, words, shape)


def vendor(ids, device="cpu"):
    numbers = torch.from_numpy(ids).to(device)
    return lambda weight: torch.nn.functional.embedding(numbers, weight)


def check(place, pair, ids, weight, dtype="float32"):
    oracle = vendor(ids, place.device)
    check_pair(place, op, pair, [weight], oracle, dtype, numbers={"ids": ids})


@pytest.fixture(autouse=True, scope="module")
def short_segments():
    """The interpreter takes a moment for each position: let a program add up 4, not 16."""
    if interpreted():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "SEGMENT", 4)
            patch.setattr(module, "PIECES", 2)
            yield
    else:
        yield


@settings(max_examples=6)
@given(shape=sizes(4), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, seed):
    words, channels, *shape = shape
    weight, ids = case(words, channels, tuple(shape), "float64", seed)
    options = {"seed": seed, "backends": ["triton"]}
    check_op(op, [weight], {"ids": ids}, oracle=vendor(ids), **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("words", [1, 2, 1000])
def test_as_good_as_torch(place, words, dtype):
    """One word is one long sum over all programs, 1000 are mostly sums of one."""
    n_words = place.size(words, 50304)
    weight, ids = case(n_words, place.size(33, 768), (place.size(60, 16384),), dtype)
    check(place, (forward, backward), ids, weight, dtype)


@given(st.data())
@settings(max_examples=10)
def test_sums_that_begin_and_end_anywhere(data):
    """Runs of equal ids of every length, shorter and longer than a program's positions."""
    lengths = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 9, 30]), max_size=5))
    ids = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    rng = rng_of(lengths)
    rng.shuffle(ids)
    dy = rng.standard_normal((len(ids), 3))
    expected = np.zeros((6, 3))
    np.add.at(expected, ids, dy)
    dweight = module.embedding_gradient(torch.from_numpy(dy), torch.from_numpy(ids), 6)
    np.testing.assert_allclose(dweight.numpy(), expected, rtol=1e-12, atol=1e-13)


def test_wide_rows(place):
    weight, ids = case(5, 1100, (40,))
    check(place, (forward, backward), ids, weight)


def test_the_atomic_variant_agrees(place):
    _, ids = case(7, 33, (5, 8))
    dy = place.tensor(normal(rng_of(1), (5, 8, 33), "float32"), "float32")
    numbers = place.tensor(ids)
    exact = module.embedding_gradient(dy.double(), numbers, 7)
    dweight = module.embedding_gradient(dy, numbers, 7, deterministic=False)
    assert dweight.dtype == torch.float32
    assert torch.allclose(dweight.double(), exact, rtol=1e-5, atol=1e-5)


def test_repeated_ids_add_up_in_the_same_order_always(place):
    _, ids = case(3, 33, (40,))
    dy = place.tensor(normal(rng_of(2), (40, 33), "float32"), "float32")
    first, second = (module.embedding_gradient(dy, place.tensor(ids), 3) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_ids_of_few_bits(place, dtype):
    """Bytes as ids: the last one is no -1."""
    ids = np.repeat(np.array([3, 255 if dtype == np.uint8 else 256, 0], dtype), [2, 20, 1])
    weight = place.tensor(np.ones((257, 3)), "float32")
    _, saved = forward(weight, ids=place.tensor(ids))
    dweight = backward(place.tensor(np.ones((len(ids), 3)), "float32"), saved)
    assert dweight[:, 0].tolist() == np.bincount(ids, minlength=257).tolist()


def test_ids_out_of_range_read_and_write_nothing(place):
    weight = place.tensor(np.ones((4, 3)), "float32")
    ids = place.tensor(np.array([0, -1, 4, 10**9, 1]))
    y, saved = forward(weight, ids=ids)
    assert torch.isnan(y).all(1).tolist() == [False, True, True, True, False]
    dweight = backward(torch.ones_like(y), saved)
    assert dweight.sum(1).tolist() == [3, 3, 0, 0]


def test_no_ids(place):
    weight = place.tensor(np.ones((4, 3)), "float32")
    y, saved = forward(weight, ids=place.tensor(np.zeros((2, 0), np.int64)))
    assert y.shape == (2, 0, 3)
    assert not backward(y, saved).any()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # a repeated id keeps its last row alone
        ("total += row.to(ACC)", "total = row.to(ACC)"),
        # a sum that goes on in the next program loses its first piece, or the rest
        ("total += tl.sum(tl.load(tile", "total = tl.sum(tl.load(tile"),
        ("more = tl.sum(ours.to(tl.int32), 0) == PIECES", "more = False"),
        # the end of one that began earlier is lost
        ("belongs_earlier = ends & (began_here == 0)", "belongs_earlier = ends & began_here"),
    ],
)
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new):
    broken = mutant(module, old, new, tmp_path)
    broken.SEGMENT, broken.PIECES = module.SEGMENT, module.PIECES
    weight, ids = case(2, 5, (60,))
    pair = broken.embedding, broken.embedding_backward
    with pytest.raises(AssertionError, match="error"):
        check(place, pair, ids, weight)


def test_wrong_arguments_are_named(place):
    weight, ids = place.tensor(np.ones((4, 3)), "float32"), place.tensor(np.ones(2, np.int64))
    with pytest.raises(ValueError, match=r"weight must have shape \(any, any\), got \(4,\)"):
        forward(weight[:, 0], ids=ids)
    with pytest.raises(ValueError, match=r"ids must be an array of integers, got torch.float32"):
        forward(weight, ids=ids.float())

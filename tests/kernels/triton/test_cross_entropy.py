import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import cross_entropy as op
from minillm_kernels.triton import cross_entropy
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

forward, backward = cross_entropy.cross_entropy, cross_entropy.cross_entropy_backward
IGNORED = -100


def case(shape, dtype, seed=0, scale=3.0, ignored=0.2):
    rng = rng_of("cross_entropy", shape, seed)
    targets = rng.integers(0, shape[-1], shape[:-1])
    targets[rng.random(shape[:-1]) < ignored] = IGNORED
    return normal(rng, shape, dtype, scale), targets


def vendor(targets, smoothing=0.0, device="cpu"):
    flat = torch.from_numpy(targets).view(-1).to(device)

    def loss(logits):
        rows = logits.view(-1, logits.shape[-1])
        rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        return torch.nn.functional.cross_entropy(rows, flat, label_smoothing=smoothing)

    return loss


def check(place, pair, shape, dtype, smoothing=0.0, **more):
    logits, targets = case(shape, dtype, **more)
    check_pair(
        place,
        op,
        pair,
        [logits],
        vendor(targets, smoothing, place.device),
        dtype,
        kwargs={"label_smoothing": smoothing},
        numbers={"targets": targets},
    )


@settings(max_examples=5)
@given(shape=shapes(), smoothing=st.sampled_from([0.0, 0.1, 1.0]), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, smoothing, seed):
    logits, targets = case(shape, "float64", seed)
    targets.flat[0] = 0  # torch's mean over no tokens is nan
    options = {"targets": targets, "label_smoothing": smoothing}
    oracle = vendor(targets, smoothing)
    check_op(op, [logits], options, oracle=oracle, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(37, 33), (3, 1), (2, 3, 1100)])
def test_as_good_as_torch(place, shape, smoothing, dtype):
    check(place, (forward, backward), place.size(shape, (16384, 1000)), dtype, smoothing)


@pytest.mark.parametrize(("dtype", "smoothing"), [("float32", 0.1), ("bfloat16", 0.0)])
def test_rows_that_fit_no_registers(place, dtype, smoothing):
    """Read in blocks of 4096 elements; 50257 is GPT-2's vocabulary, which no block divides."""
    check(place, (forward, backward), (place.size(3, 2048), 50257), dtype, smoothing)


@pytest.mark.parametrize("columns", [300, 9000])
def test_large_scores_keep_their_digits(place, columns):
    check(place, (forward, backward), (5, columns), "float32", 0.1, scale=1e4, ignored=0)


@pytest.mark.parametrize("columns", [33, 4500])
def test_masked_words(place, columns):
    """A word of -inf has no probability and no gradient; one as the target costs infinitely."""
    logits, _ = case((3, columns), "float32")
    logits[:, ::2], targets = -np.inf, np.array([1, 3, 5])
    with minillm.backend("numpy"):
        truth, cache = op(logits, targets=targets)
        expected = op.backward(1.5, cache)
    numbers = place.tensor(targets)
    loss, saved = forward(place.tensor(logits, "float32"), targets=numbers)
    dlogits = place.numpy(backward(torch.tensor(1.5, device=place.device), saved))
    assert abs(float(loss) - truth) < 1e-5 * truth
    np.testing.assert_allclose(dlogits, expected, rtol=1e-4, atol=1e-9)
    assert not dlogits[:, ::2].any()
    loss, _ = forward(place.tensor(logits, "float32"), targets=numbers - 1)
    assert loss == np.inf


@pytest.mark.parametrize("columns", [33, 4500])
def test_nothing_counts(place, columns):
    logits, targets = case((3, columns), "float32")
    logits[1] = np.nan  # what does not count is not even read
    numbers = place.tensor(np.full_like(targets, 7))
    loss, saved = forward(place.tensor(logits, "float32"), targets=numbers, ignore_index=7)
    dlogits = backward(torch.tensor(1.0, device=place.device), saved)
    assert loss == 0
    assert not dlogits.any()


@pytest.mark.parametrize("columns", [33, 4500])
@pytest.mark.parametrize("target", [-1, 10**6])
def test_a_target_out_of_range_gives_nan(place, columns, target):
    logits, _ = case((3, columns), "float32")
    targets = place.tensor(np.array([0, target, 1]))
    loss, _ = forward(place.tensor(logits, "float32"), targets=targets)
    assert torch.isnan(loss)


def test_targets_of_any_integer_type(place):
    logits, targets = case((4, 33), "float32", ignored=0)
    logits = place.tensor(logits, "float32")
    losses = [
        float(forward(logits, targets=place.tensor(targets).to(dtype))[0])
        for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)
    ]
    assert len(set(losses)) == 1


def test_no_tokens(place):
    logits = place.tensor(np.ones((0, 5)), "float32")
    loss, saved = forward(logits, targets=place.tensor(np.ones(0, np.int64)))
    assert loss == 0
    assert backward(loss, saved).shape == (0, 5)


@pytest.mark.parametrize(
    ("old", "new", "columns"),
    [
        ("tl.sum(lane_total * tl.exp(lane_largest - row_largest), 0)",
         "tl.sum(lane_total, 0)", 9000),
        ("lane_total = lane_total * tl.exp(lane_largest - off) + block_total",
         "lane_total = lane_total + block_total", 9000),
        ("tl.sum(tl.where(inside, scores - aim[:, None], 0.0), 1)",
         "tl.sum(scores - aim[:, None], 1)", 33),
        ("counted = tl.maximum(tl.sum(number, 0), 1).to(ACC)", "counted = n_rows * 1.0", 33),
        ("tl.where(columns[None, :] == target[:, None], on_target, 0.0)",
         "tl.where(columns[None, :] == target[:, None], 1.0, 0.0)", 33),
        ("dnats = tl.where(counted, tl.load(dloss).to(ACC) / tl.load(count), 0.0)",
         "dnats = tl.where(row_inside, tl.load(dloss).to(ACC) / tl.load(count), 0.0)", 33),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new, columns):
    broken = mutant(cross_entropy, old, new, tmp_path)
    pair = broken.cross_entropy, broken.cross_entropy_backward
    with pytest.raises(AssertionError, match="error"):
        check(place, pair, (9, columns), "float32", 0.1)


def test_wrong_arguments_are_named(place):
    logits, targets = place.tensor(np.ones((2, 4)), "float32"), place.tensor(np.ones(2, np.int64))
    with pytest.raises(ValueError, match=r"targets must have shape \(2,\), got \(3,\)"):
        forward(logits, targets=torch.ones(3, dtype=torch.int64, device=place.device))
    with pytest.raises(ValueError, match=r"targets must be an array of integers, got .*float32"):
        forward(logits, targets=targets.float())
    with pytest.raises(ValueError, match="label_smoothing must be between 0 and 1, got 2"):
        forward(logits, targets=targets, label_smoothing=2)

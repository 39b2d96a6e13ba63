import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import linear_cross_entropy as op
from minillm_kernels.precision import precision
from minillm_kernels.require import interpreted
from minillm_kernels.triton import linear_cross_entropy
from minillm_kernels.triton._tune import Choice
from tests.kernels.harness import error
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds
from tests.ops.harness import check_op, rng_of

IGNORED = -7
pair = linear_cross_entropy.linear_cross_entropy, linear_cross_entropy.linear_cross_entropy_backward


def case(lead, c, v, dtype, *, bias=True, seed=0, scale=1.0):
    """Arguments, and targets of which about one in five does not count."""
    rng = rng_of("linear_cross_entropy", lead, c, v, seed)
    x, weight, b = (normal(rng, shape, dtype, scale) for shape in ((*lead, c), (v, c), (v,)))
    targets = np.where(rng.random(lead) < 0.2, IGNORED, rng.integers(0, v, lead))
    return (x, weight, b if bias else None), targets


def vendor(targets, smoothing):
    def forward(x, weight, bias):
        logits = torch.nn.functional.linear(x, weight, bias).flatten(0, -2)
        wanted = torch.from_numpy(targets.reshape(-1)).to(x.device)
        nats = torch.nn.functional.cross_entropy(
            logits, wanted, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
        )
        return nats / max(1, (targets != IGNORED).sum())  # the mean over none is torch's nan

    return forward


def keywords(smoothing):
    return {"ignore_index": IGNORED, "label_smoothing": smoothing}


def small_pieces(monkeypatch):
    """Make every piece at most 128 rows high, which a GPU's are only for long inputs."""
    monkeypatch.setattr(linear_cross_entropy, "PIECE_BYTES", 1)
    assert linear_cross_entropy.piece_rows(1000, 7, 4) == 128


def tiny_pieces(monkeypatch, module):
    """Pieces of 8 rows: the interpreter takes a moment for each row."""
    monkeypatch.setattr(module, "piece_rows", lambda n, v, itemsize: min(8, n))


def small_blocks(monkeypatch, module):
    """Take several blocks to a row where rows are short."""
    if interpreted():
        monkeypatch.setattr(module.loss_and_gradient_kernel, "choices", [Choice({"BLOCK": 32})])


@settings(max_examples=2, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), min_size=1, max_size=2), c=st.integers(1, 3),
    v=st.integers(1, 7), bias=st.booleans(), smoothing=st.sampled_from([0.0, 0.1, 1.0]), seed=seeds,
)  # fmt: skip
def test_agrees_with_both_oracles_in_float64(lead, c, v, bias, smoothing, seed):
    args, targets = case(tuple(lead), c, v, "float64", bias=bias, seed=seed)
    check_op(
        op, args, keywords(smoothing) | {"targets": targets}, oracle=vendor(targets, smoothing),
        seed=seed, backends=["triton"],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_as_good_as_torch(place, dtype, smoothing):
    lead, c, v = place.size(((2, 13), 24, 203), ((2, 1024), 768, 50257))
    args, targets = case(lead, c, v, dtype, scale=0.5)
    check_pair(
        place, op, pair, args, vendor(targets, smoothing), dtype,
        kwargs=keywords(smoothing), numbers={"targets": targets},
    )  # fmt: skip


def test_pieces_make_no_difference(place, monkeypatch):
    """Two pieces, or one: every number the same up to rounding."""
    args, targets = case((21,), 8, 40, "float32")
    here = [place.tensor(a, "float32") for a in args]
    kwargs = keywords(0.1) | {"targets": place.tensor(targets)}
    loss, saved = pair[0](*here, **kwargs)
    whole = loss, *pair[1](torch.ones_like(loss), saved)
    tiny_pieces(monkeypatch, linear_cross_entropy)
    small_blocks(monkeypatch, linear_cross_entropy)
    loss, saved = pair[0](*here, **kwargs)
    for a, b in zip(whole, (loss, *pair[1](torch.ones_like(loss), saved)), strict=True):
        assert error(place.numpy(a), place.numpy(b)) < 1e-6
    again, _ = pair[0](*here, **kwargs)
    assert torch.equal(loss, again)


def test_never_holds_the_full_logits(place, monkeypatch):
    small_pieces(monkeypatch)
    sizes, empty = [], torch.empty

    def noted(*args, **kwargs):
        made = empty(*args, **kwargs)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(torch, "empty", noted)
    args, targets = case((130,), 8, 640, "float32")
    here = [place.tensor(a, "float32") for a in args]
    pair[0](*here, targets=place.tensor(targets), ignore_index=IGNORED)
    assert max(sizes) <= 128 * 640
    assert 128 * 640 in sizes, "the piece was not seen"


@pytest.mark.parametrize("n", [1, 5335, 5336, 16384, 100_000])
def test_heights_of_pieces(n):
    height = linear_cross_entropy.piece_rows(n, 50304, 2)
    assert height * 50304 * 2 <= linear_cross_entropy.PIECE_BYTES
    assert height <= n
    pieces = -(-n // height)
    assert pieces <= -(-n // 5248), "more pieces than need be"
    assert height % 128 == 0 or pieces == 1


def test_large_logits(place, monkeypatch):
    small_blocks(monkeypatch, linear_cross_entropy)
    args, targets = case((9,), 3, 50, "float32", scale=100.0)
    here = [place.tensor(a, "float32") for a in args]
    loss, saved = pair[0](*here, targets=place.tensor(targets), ignore_index=IGNORED)
    with minillm.backend("numpy"):
        truth, _ = op(*args, targets=targets, ignore_index=IGNORED)
    assert float(loss) == pytest.approx(float(truth), rel=1e-5)
    assert all(torch.isfinite(g).all() for g in pair[1](torch.ones_like(loss), saved))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_targets_of_any_integer_type_and_stride(place, dtype):
    """156 is -100 in 8 bits, and every second number of an array is not the first ones."""
    args, _ = case((3,), 5, 160, "float32")
    here = [place.tensor(a, "float32") for a in args]
    apart = np.zeros(6, dtype)
    apart[::2] = 156, 3, 156
    ours, _ = pair[0](*here, targets=place.tensor(apart)[::2])
    with minillm.backend("numpy"):
        truth, _ = op(*args, targets=apart[::2].astype(int))
    assert float(ours) == pytest.approx(float(truth), rel=1e-5)


def test_a_target_out_of_range_gives_nan(place):
    """And reads nothing that is not there: the piece ends at V = 64."""
    args, _ = case((3,), 5, 64, "float32")
    here = [place.tensor(a, "float32") for a in args]
    for target in (64, -1, 10**9):
        loss, _ = pair[0](*here, targets=place.tensor(np.array([0, 1, target])))
        assert torch.isnan(loss)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_word_that_its_bias_hides(place, smoothing):
    (x, weight, bias), _ = case((3,), 5, 7, "float32")
    bias[2] = -np.inf
    targets = np.array([0, 3, 6])
    here = [place.tensor(a, "float32") for a in (x, weight, bias)]
    loss, saved = pair[0](*here, targets=place.tensor(targets), label_smoothing=smoothing)
    with minillm.backend("numpy"):
        truth, cache = op(x, weight, bias, targets=targets, label_smoothing=smoothing)
        grads = op.backward(1.0, cache)
    assert float(loss) == pytest.approx(float(truth), rel=1e-5)
    for ours, theirs in zip(pair[1](torch.ones_like(loss), saved), grads, strict=True):
        np.testing.assert_allclose(place.numpy(ours), theirs, atol=1e-5)


@pytest.mark.parametrize("n", [0, 4])
def test_where_nothing_counts(place, n):
    args, _ = case((n,), 5, 7, "float32")
    here = [place.tensor(a, "float32") for a in args]
    targets = place.tensor(np.full(n, IGNORED))
    loss, saved = pair[0](*here, targets=targets, ignore_index=IGNORED)
    grads = pair[1](torch.ones_like(loss), saved)
    assert float(loss) == 0
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert not any(g.any() for g in grads)


def test_bf16_inside_float32(place):
    args, targets = case((40,), 24, 60, "float32", scale=0.5)
    with minillm.backend("numpy"):
        truth, cache = op(*args, targets=targets, ignore_index=IGNORED)
        grads = op.backward(1.0, cache)
    with precision("bf16"):
        loss, saved = pair[0](*(place.tensor(a, "float32") for a in args),
                              targets=place.tensor(targets), ignore_index=IGNORED)  # fmt: skip
        ours = pair[1](torch.ones_like(loss), saved)
    for a, b in zip((loss, *ours), (truth, *grads), strict=True):
        assert a.dtype == torch.float32
        assert error(place.numpy(a), b) < 0.02


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 5), (7, 4), (7,)), {}, r"weight must have shape \(any, 5\), got \(7, 4\)"),
        (((2, 5), (7, 5), (6,)), {}, r"bias must have shape \(7,\), got \(6,\)"),
        (((3, 5), (7, 5), (7,)), {}, r"targets must have shape \(3,\), got \(2,\)"),
        (((2, 5), (7, 5), (7,)), {"label_smoothing": 1.5}, "label_smoothing must be between 0 and"),
        (((2, 5), (7, 5), (7,)), {"targets": np.ones(2)}, "targets must be an array of int"),
        (((2, 5), (7, 5), (7,)), {"targets": [0, 0]}, "targets must be an array of .* got list"),
    ],
)
def test_refusals(place, shapes, options, message):
    options = {"targets": np.zeros(2, int)} | options
    if hasattr(options["targets"], "shape"):
        options["targets"] = place.array(options["targets"])
    with minillm.backend("triton"), pytest.raises(ValueError, match=message):
        op(*(place.array(np.ones(shape)) for shape in shapes), **options)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tl.where(counted, tl.exp(logits", "tl.where(row >= 0, tl.exp(logits"),
        ("tl.where(counted, loss, 0)", "loss"),
        ("* (1 - SMOOTHING) + SHARE", "* (1 - SMOOTHING)"),
        ("total * other + 1", "total + 1"),
        ("matmul(piece, w, out=dx[here])", "matmul(piece, w, out=dx[here]).mul_(0.98)"),
        ("out=dweight, add=first > 0", "out=dweight"),
        ("scale = dloss.to(count.dtype) / count", "scale = dloss.to(count.dtype) / len(dx)"),
    ],
)  # fmt: skip
def test_broken_pairs_are_refused(place, monkeypatch, tmp_path, old, new):
    broken = mutant(linear_cross_entropy, old, new, tmp_path)
    tiny_pieces(monkeypatch, broken)
    small_blocks(monkeypatch, broken)
    (x, weight, bias), targets = case((21,), 8, 60, "float32")
    pair = broken.linear_cross_entropy, broken.linear_cross_entropy_backward
    with pytest.raises(AssertionError):
        check_pair(
            place, op, pair, (x, weight, bias), vendor(targets, 0.1), "float32",
            kwargs=keywords(0.1), numbers={"targets": targets},
        )  # fmt: skip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.ops import softmax as op
from minillm_kernels.triton import softmax
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

forward, backward = softmax.softmax, softmax.softmax_backward


def case(shape, dtype, seed=0, scale=3.0):
    return (normal(rng_of("softmax", shape, seed), shape, dtype, scale),)


def vendor(x):
    return torch.softmax(x, -1)


@settings(max_examples=5)
@given(shape=shapes(), axis=st.integers(-2, 0), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, axis, seed):
    axis = max(axis, -len(shape))
    args = case(shape, "float64", seed)
    check_op(
        op, args, {"axis": axis}, oracle=lambda x: x.softmax(axis), seed=seed, backends=["triton"]
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(37, 33), (3, 1), (2, 3, 1100)])
def test_as_good_as_torch(place, shape, dtype):
    shape = place.size(shape, (16384, 1024))
    check_pair(place, op, (forward, backward), case(shape, dtype), vendor, dtype)


def long_rows(place, monkeypatch):
    """Make rows of more than 16 columns long ones, read in blocks of 64; the shape to try."""
    if place.name == "cpu":
        monkeypatch.setattr(softmax, "ROW_COLUMNS", 16)
        monkeypatch.setattr(softmax, "LOOP_COLUMNS", 64)
    return place.size((7, 150), (2000, 50304))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_fit_no_registers(place, monkeypatch, dtype):
    args = case(long_rows(place, monkeypatch), dtype)
    check_pair(place, op, (forward, backward), args, vendor, dtype)


@pytest.mark.parametrize("long", [False, True])
def test_rows_masked_in_part_and_wholly(place, monkeypatch, long):
    """-inf is a score of zero probability; where there is no other, all are zero."""
    shape = long_rows(place, monkeypatch) if long else (5, 33)
    (x,) = case(shape, "float32", scale=300.0)
    x[0], x[1, :-1], x[2, ::2], x[3, :20] = (-np.inf,) * 4
    y, saved = forward(place.tensor(x, "float32"))
    dx = backward(place.tensor(normal(rng_of(0), shape, "float32"), "float32"), saved)
    y, dx = place.numpy(y), place.numpy(dx)
    expected = x[1:] - x[1:].max(1, keepdims=True)
    expected = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    np.testing.assert_allclose(y[1:], expected, rtol=1e-5, atol=1e-30)
    assert not y[0].any()
    assert not dx[0].any()
    assert not dx[x == -np.inf].any()
    assert np.isfinite(dx).all()


@pytest.mark.parametrize(
    ("old", "new", "scale", "long"),
    [
        ("scores - shift(tl.max(scores, 1))[:, None]", "scores", 100, False),
        ("other=float(\"-inf\")).to(ACC)\n    shifted", "other=0).to(ACC)\n    shifted", 1, False),
        ("total = total * tl.exp(largest - off) + tl", "total = total + tl", 9, True),
        ("tl.sum(total * tl.exp(largest - off), 0)", "tl.sum(total, 0)", 9, True),
        ("tl.sum(upstream * value, 1)[:, None]", "tl.sum(upstream, 1)[:, None]", 1, False),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new, scale, long):
    broken = mutant(softmax, old, new, tmp_path)
    shape = (37, 33)
    if long:
        broken.ROW_COLUMNS, broken.LOOP_COLUMNS, shape = 16, 64, (7, 150)
    pair = broken.softmax, broken.softmax_backward
    args = case(shape, "float32", scale=scale)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="error"):
        check_pair(place, op, pair, args, vendor, "float32")


def test_no_rows_and_no_columns(place):
    for shape in ((0, 5), (5, 0)):
        y, saved = forward(place.tensor(np.ones(shape), "float32"))
        assert y.shape == backward(y, saved).shape == shape


def test_wrong_arguments_are_named(place):
    x = place.tensor(np.ones((2, 4)), "float32")
    with pytest.raises(ValueError, match="softmax: axis must be one of x's 2, got 2"):
        forward(x, axis=2)
    with pytest.raises(ValueError, match=r"softmax: x must be one of .*, got torch.int32"):
        forward(x.int())
    y, saved = forward(x)
    with pytest.raises(ValueError, match=r"dy must be torch.float32 as y is, got torch.float16"):
        backward(y.half(), saved)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.ops import log_softmax as op
from minillm_kernels.triton import log_softmax, softmax
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

forward, backward = log_softmax.log_softmax, log_softmax.log_softmax_backward


def case(shape, dtype, seed=0, scale=3.0):
    return (normal(rng_of("log_softmax", shape, seed), shape, dtype, scale),)


def vendor(x):
    return torch.log_softmax(x, -1)


@settings(max_examples=4)
@given(shape=shapes(), axis=st.integers(-2, 0), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, axis, seed):
    axis = max(axis, -len(shape))
    args = case(shape, "float64", seed)
    options = {"seed": seed, "backends": ["triton"]}
    check_op(op, args, {"axis": axis}, oracle=lambda x: x.log_softmax(axis), **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype):
    shape = place.size((37, 33), (16384, 1024))
    check_pair(place, op, (forward, backward), case(shape, dtype), vendor, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_fit_no_registers(place, monkeypatch, dtype):
    if place.name == "cpu":
        monkeypatch.setattr(softmax, "ROW_COLUMNS", 16)
        monkeypatch.setattr(softmax, "LOOP_COLUMNS", 64)
    shape = place.size((7, 150), (2000, 50304))
    check_pair(place, op, (forward, backward), case(shape, dtype), vendor, dtype)


def test_large_scores(place):
    """exp(x) overflows from 89 on in float32."""
    args = case((7, 150), "float32", scale=1e4)
    check_pair(place, op, (forward, backward), args, vendor, "float32")


def test_a_score_of_minus_infinity(place):
    x = np.array([[0.0, -np.inf, 0.0], [-np.inf] * 3])
    y, saved = forward(place.tensor(x, "float32"))
    dx = backward(place.tensor(np.ones((2, 3)), "float32"), saved)
    np.testing.assert_allclose(place.numpy(y), [[np.log(0.5), -np.inf, np.log(0.5)], [-np.inf] * 3])
    np.testing.assert_allclose(place.numpy(dx), [[-0.5, 1, -0.5], [1, 1, 1]])


def test_a_kernel_with_softmaxs_slope_is_refused(place, tmp_path):
    old = "upstream - tl.exp(value) * tl.sum(upstream, 1)[:, None]"
    broken = mutant(softmax, old, "upstream - value * tl.sum(upstream, 1)[:, None]", tmp_path)
    pair = (
        lambda x: broken.forward("wrong", x, -1, True),
        lambda dy, saved: broken.backward("wrong", dy, saved, True),
    )
    args = case((37, 33), "float32")
    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, pair, args, vendor, "float32")

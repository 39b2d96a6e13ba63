import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.ops import rms_norm as op
from minillm_kernels.triton import _norm, rms_norm
from tests.kernels.triton.pairs import broken_norm, check_pair, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

pair = rms_norm.rms_norm, rms_norm.rms_norm_backward


def case(shape, dtype, seed=0):
    rng = rng_of("rms_norm", shape, seed)
    return normal(rng, shape, dtype, 3.0, 1.0), normal(rng, shape[-1:], dtype)


def vendor(eps=1e-5):
    return lambda x, gain: torch.nn.functional.rms_norm(x, gain.shape, gain, eps)


@settings(max_examples=4)
@given(shape=shapes(), eps=st.sampled_from([1e-5, 0.1]), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, eps, seed):
    args = case(shape, "float64", seed)
    check_op(op, args, {"eps": eps}, oracle=vendor(eps), seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(37, 33), (2, 3, 1100)])
def test_as_good_as_torch(place, shape, dtype):
    shape = place.size(shape, (16384, 768))
    check_pair(place, op, pair, case(shape, dtype), vendor(), dtype)


def test_rows_that_fit_no_registers(place, monkeypatch):
    if place.name == "cpu":
        for name, columns in (("FORWARD", 16), ("BACKWARD", 16), ("LOOP", 64)):
            monkeypatch.setattr(_norm, f"{name}_COLUMNS", columns)
    shape = (place.size(7, 2000), place.size(150, 65536))
    check_pair(place, op, pair, case(shape, "float32"), vendor(), "float32")


def test_rows_of_zeros_stay_finite(place):
    x, gain = place.tensor(np.zeros((2, 40)), "float32"), place.tensor(np.ones(40), "float32")
    y, saved = rms_norm.rms_norm(x, gain)
    dx, dgain = rms_norm.rms_norm_backward(gain + x, saved)
    assert not y.any()
    assert torch.all(torch.isfinite(dx))
    assert not dgain.any()


def test_a_kernel_that_forgets_the_root_mean_square_is_refused(place, monkeypatch, tmp_path):
    share = "normed * (tl.sum(dnormed * normed, 1) / n_columns)[:, None]"
    broken = broken_norm(monkeypatch, share, "0", tmp_path)

    def forward(x, gain):
        y, _, saved = broken.forward("wrong", x, None, gain, None, 1e-5)
        return y, saved

    def backward(dy, saved):
        return broken.backward("wrong", dy, None, saved)[:2]

    args = case((37, 33), "float32")
    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, (forward, backward), args, vendor(), "float32")


def test_wrong_arguments_are_named(place):
    x, gain = place.tensor(np.ones((2, 4)), "float32"), place.tensor(np.ones(3), "float32")
    with pytest.raises(ValueError, match=r"rms_norm: gain must have shape \(4,\), got \(3,\)"):
        rms_norm.rms_norm(x, gain)

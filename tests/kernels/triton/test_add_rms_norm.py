import numpy as np
import pytest
import torch
from hypothesis import given, settings

from minillm.ops import add_rms_norm as op
from minillm_kernels.triton import _norm, add_rms_norm
from tests.kernels.triton.pairs import broken_norm, check_pair, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

pair = add_rms_norm.add_rms_norm, add_rms_norm.add_rms_norm_backward


def case(shape, dtype, seed=0):
    rng = rng_of("add_rms_norm", shape, seed)
    wide = [normal(rng, shape, dtype, 2.0, 0.5) for _ in range(2)]
    return *wide, normal(rng, shape[-1:], dtype)


def vendor(x, residual, gain):
    total = x + residual
    return torch.nn.functional.rms_norm(total, gain.shape, gain, 1e-5), total


@settings(max_examples=3)
@given(shape=shapes(), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, seed):
    check_op(op, case(shape, "float64", seed), oracle=vendor, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype):
    shape = place.size((37, 33), (16384, 768))
    check_pair(place, op, pair, case(shape, dtype), vendor, dtype)


def test_rows_that_fit_no_registers(place, monkeypatch):
    if place.name == "cpu":
        for name, columns in (("FORWARD", 16), ("BACKWARD", 16), ("LOOP", 64)):
            monkeypatch.setattr(_norm, f"{name}_COLUMNS", columns)
    shape = (place.size(7, 2000), place.size(150, 65536))
    check_pair(place, op, pair, case(shape, "float32"), vendor, "float32")


def test_a_kernel_that_drops_the_residual_is_refused(place, monkeypatch, tmp_path):
    line = "        values += tl.load(residual + at, mask=inside, other=0).to(ACC)\n"
    broken = broken_norm(monkeypatch, line, "", tmp_path)

    def forward(x, residual, gain):
        y, total, saved = broken.forward("wrong", x, residual, gain, None, 1e-5)
        return (y, total), saved

    def backward(dout, saved):
        dtotal, dgain, _ = broken.backward("wrong", *dout, saved)
        return dtotal, dtotal, dgain

    args = case((37, 33), "float32")
    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, (forward, backward), args, vendor, "float32")


def test_wrong_arguments_are_named(place):
    x, one = place.tensor(np.ones((2, 4)), "float32"), place.tensor(np.ones(4), "float32")
    with pytest.raises(ValueError, match=r"add_rms_norm: residual must have shape \(2, 4\)"):
        add_rms_norm.add_rms_norm(x, one, one)

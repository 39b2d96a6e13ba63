import numpy as np
import pytest
import torch
from hypothesis import given, settings

from minillm.ops import add_layer_norm as op
from minillm_kernels.triton import _norm, add_layer_norm
from tests.kernels.triton.pairs import broken_norm, check_pair, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

forward, backward = add_layer_norm.add_layer_norm, add_layer_norm.add_layer_norm_backward


def case(shape, dtype, seed=0):
    rng = rng_of("add_layer_norm", shape, seed)
    wide = [normal(rng, shape, dtype, 2.0, 0.5) for _ in range(2)]
    return *wide, normal(rng, shape[-1:], dtype), normal(rng, shape[-1:], dtype)


def vendor(x, residual, gain, bias):
    total = x + residual
    return torch.nn.functional.layer_norm(total, gain.shape, gain, bias), total


@settings(max_examples=3)
@given(shape=shapes(), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, seed):
    check_op(op, case(shape, "float64", seed), oracle=vendor, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(37, 33), (2, 3, 1100)])
def test_as_good_as_torch(place, shape, dtype):
    shape = place.size(shape, (16384, 768))
    check_pair(place, op, (forward, backward), case(shape, dtype), vendor, dtype)


def test_rows_that_fit_no_registers(place, monkeypatch):
    if place.name == "cpu":
        for name, columns in (("FORWARD", 16), ("BACKWARD", 16), ("LOOP", 64)):
            monkeypatch.setattr(_norm, f"{name}_COLUMNS", columns)
    shape = (place.size(7, 2000), place.size(150, 65536))
    check_pair(place, op, (forward, backward), case(shape, "bfloat16"), vendor, "bfloat16")


def test_no_upstream_at_all(place):
    args = [place.tensor(a, "float32") for a in case((2, 5, 33), "float32")]
    _, saved = forward(*args)
    grads = backward((None, None), saved)
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize("missing", [0, 1])
def test_an_output_without_an_upstream(place, missing):
    args = [place.tensor(a, "float32") for a in case((5, 33), "float32")]
    (y, _), saved = forward(*args)
    dout = [y.flip(0), y.flip(1)]
    zeros = list(dout)
    dout[missing], zeros[missing] = None, torch.zeros_like(y)
    for a, b in zip(backward(tuple(dout), saved), backward(tuple(zeros), saved), strict=True):
        assert torch.equal(a, b)
        assert a.any() or missing == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        if ADDED:\n            out += tl.load(dtotal + at, mask",
         "        if False:\n            out += tl.load(dtotal + at, mask"),
        ("        values = rounded.to(ACC)  # y", "        values = values.to(ACC) * 0.99  # y"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_refused(place, monkeypatch, tmp_path, old, new):
    broken = broken_norm(monkeypatch, old, new, tmp_path)

    def wrong_forward(x, residual, gain, bias):
        y, total, saved = broken.forward("wrong", x, residual, gain, bias, 1e-5)
        return (y, total), saved

    def wrong_backward(dout, saved):
        dtotal, dgain, dbias = broken.backward("wrong", *dout, saved)
        return dtotal, dtotal, dgain, dbias

    pair, args = (wrong_forward, wrong_backward), case((37, 33), "float32")
    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, pair, args, vendor, "float32")


def test_wrong_arguments_are_named(place):
    x, other, one = (place.tensor(np.ones(s), "float32") for s in ((2, 4), (4, 4), 4))
    with pytest.raises(ValueError, match=r"residual must have shape \(2, 4\), got \(4, 4\)"):
        forward(x, other, one, one)
    with pytest.raises(ValueError, match=r"residual must be torch.float32 as x is, got .*float64"):
        forward(x, x.double(), one, one)

"""Scaled dot-product attention in Triton: flash attention's kernels, or dropout's way."""

import numpy as np
import pytest

import minillm
from minillm import gradcheck
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention as op
from minillm_kernels.triton import scaled_dot_product_attention as module
from tests.kernels.harness import error

SHAPES = ((2, 4, 7, 10), (2, 2, 9, 10), (2, 2, 9, 14), (1, 4, 1, 9))


def run(backend, place, dtype=np.float64, shapes=SHAPES, **kwargs):
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s).astype(dtype) for s in shapes]
    dout = rng.standard_normal((2, 4, 7, 14)).astype(dtype)
    if backend == "triton":
        args, dout = [place.array(a) for a in args], place.array(dout)
        if "mask" in kwargs:
            kwargs["mask"] = place.array(kwargs["mask"])
    with minillm.backend(backend):
        out, cache = op(*args, **kwargs)
        return [place.numpy(x) for x in (out, *op.backward(dout, cache)) if x is not None]


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[:3]], ids=["bias", "no bias"])
@pytest.mark.parametrize("masked", [False, True])
def test_outputs_and_gradients_are_numpys(place, shapes, masked):
    kwargs = {"causal": True, "scale": 0.4, "shapes": shapes}
    if masked:
        kwargs["mask"] = np.random.default_rng(1).random((2, 1, 7, 9)) < 0.5
    truth = run("numpy", place, **kwargs)
    ours = run("triton", place, np.float32, **kwargs)
    for a, b in zip(ours, truth, strict=True):
        assert a.dtype == np.float32
        assert error(a, b) < 2e-6


def test_dropout_is_the_references(place):
    kwargs = {"dropout": 0.5, "causal": True}
    truth = run("numpy", place, rng=np.random.default_rng(5), **kwargs)
    ours = run("triton", place, rng=np.random.default_rng(5), **kwargs)
    for a, b in zip(ours, truth, strict=True):
        assert error(a, b) < 1e-12
    assert error(run("triton", place, causal=True)[0], truth[0]) > 0.1  # it did drop


def test_dropout_without_a_generator_is_off(place):
    a, b = run("triton", place, dropout=0.5), run("triton", place)
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_gradients_by_differences():
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s) for s in ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4))]
    with minillm.backend("triton"):
        report = gradcheck.check_op(op, (*args, None), {"causal": True})
    assert report.passed, report


def test_a_pair_without_its_mask_is_noticed(place, monkeypatch):
    flash = module.flash_attention
    monkeypatch.setattr(
        module, "flash_attention", lambda *a, **k: flash(*a, **(k | {"causal": False}))
    )
    ours, truth = run("triton", place, causal=True), run("numpy", place, causal=True)
    assert all(error(a, b) > 1e-2 for a, b in zip(ours, truth, strict=True))

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import gelu as op
from minillm_kernels.triton import _epilogue, gelu
from tests.kernels.harness import error
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

pair = gelu.gelu, gelu.gelu_backward
forms = pytest.mark.parametrize("approximate", ["none", "tanh"])


def vendor(approximate):
    return lambda x: torch.nn.functional.gelu(x, approximate=approximate)


@settings(max_examples=5, deadline=None)
@given(shape=shapes(), approximate=st.sampled_from(["none", "tanh"]), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, approximate, seed):
    x = normal(rng_of("gelu", shape, seed), shape, "float64", 3.0)
    kwargs = {"approximate": approximate}
    check_op(op, (x,), kwargs, oracle=vendor(approximate), seed=seed, backends=["triton"])


@forms
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype, approximate):
    x = normal(np.random.default_rng(0), place.size((3, 1037), (16384, 3072)), dtype, 2.0)
    kwargs = {"approximate": approximate}
    check_pair(place, op, pair, (x,), vendor(approximate), dtype, kwargs=kwargs)


@forms
def test_large_values_do_not_overflow(place, approximate):
    x = np.array([-1e4, -90.0, -30.0, 0.0, 30.0, 90.0, 1e4])
    y, saved = pair[0](place.tensor(x, "float32"), approximate=approximate)
    dx = pair[1](torch.ones_like(y), saved)
    assert place.numpy(y).tolist() == pytest.approx(np.maximum(x, 0).tolist())
    assert place.numpy(dx).tolist() == pytest.approx([0, 0, 0, 0.5, 1, 1, 1], abs=1e-6)


def test_blocks_of_numbers(place, monkeypatch):
    """More blocks than one, the last of them not full."""
    monkeypatch.setattr(gelu, "BLOCK_INTERPRETED", 64)
    x = normal(np.random.default_rng(1), (place.size(3, 30000), 67), "float32")
    y, _ = pair[0](place.tensor(x, "float32"))
    assert error(place.numpy(y), vendor("none")(torch.from_numpy(x)).numpy()) < 1e-6


def test_no_numbers(place):
    x = place.tensor(np.ones((0, 5)), "float32")
    y, saved = pair[0](x)
    assert y.shape == pair[1](y, saved).shape == (0, 5)


def test_refusals(place):
    x = place.array(np.ones(3))
    with minillm.backend("triton"), pytest.raises(ValueError, match="approximate must be"):
        op(x, approximate="erf")
    with pytest.raises(ValueError, match=r"x must be a tensor of .*, got torch.int64"):
        pair[0](torch.ones(3, dtype=torch.int64, device=place.device))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.044715 * (x * x * x)", "0.0447 * (x * x * x)"),
        ("chance + x * slope", "chance"),
        ("3 * 0.044715", "0.044715"),
        ("tl.maximum(x, -80.0)", "tl.maximum(x, -1.0)"),
    ],
)
def test_broken_kernels_are_refused(place, monkeypatch, tmp_path, old, new):
    broken = mutant(_epilogue, old, new, tmp_path)
    monkeypatch.setattr(gelu, "gelu_value", broken.gelu_value)
    monkeypatch.setattr(gelu, "gelu_slope", broken.gelu_slope)
    x = normal(np.random.default_rng(2), (200,), "float64", 2.0)
    with pytest.raises(AssertionError):
        check_op(op, (x,), {"approximate": "tanh"}, oracle=vendor("tanh"), backends=["triton"])

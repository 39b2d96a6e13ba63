"""Flash attention in Triton against the specification in float64 and torch's error."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops.flash_attention import flash_attention as op
from minillm_kernels import arrays
from minillm_kernels.precision import precision
from minillm_kernels.triton import _attention_launch as launch
from minillm_kernels.triton._tune import chosen
from minillm_kernels.triton.flash_attention import (
    deterministic,
    flash_attention,
    flash_attention_backward,
)
from tests.kernels.harness import error
from tests.kernels.triton.attention_cases import Case


@settings(max_examples=4)
@given(
    T=st.integers(1, 100),
    S=st.integers(1, 100),
    G=st.integers(1, 2),
    R=st.integers(1, 2),
    D=st.sampled_from([1, 24, 32, 64, 80, 96, 128]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)
@example(T=1, S=1, G=1, R=1, D=64, dtype="float32", causal=True, seed=0)
@example(T=130, S=70, G=1, R=2, D=64, dtype="bfloat16", causal=True, seed=1)  # dead rows, TMA
@example(T=70, S=130, G=2, R=1, D=80, dtype="float32", causal=True, seed=2)  # two pieces
@example(T=65, S=129, G=1, R=1, D=128, dtype="float16", causal=False, seed=3)
def test_error_is_the_vendors_at_most_twice(place, T, S, G, R, D, dtype, causal, seed):
    T, S = place.size(T, 7 * T), place.size(S, 7 * S)
    Case(1, G * R, G, T, S, D, dtype=dtype, causal=causal, seed=seed).check(place)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": (2, 1, 67, 75)},
        {"mask": (1, 2, 67, 1), "causal": True},  # whole rows hidden
        {"bias": (1, 2, 1, 75), "causal": True},
        {"bias": (2, 2, 67, 75), "mask": (1, 1, 1, 75), "values": 40},
        {"scale": -0.3},
        {"scale": 0.0, "causal": True},
    ],
    ids=str,
)
def test_mask_bias_and_scale(place, options):
    Case(2, 2, 1, 67, 75, 32, **options).check(place)


def test_minus_infinity_in_the_bias_hides_a_pair_and_a_whole_row(place):
    case = Case(1, 2, 2, 9, 11, 16, bias=(1, 1, 9, 11))
    case.bias[..., 3:] = -np.inf
    case.bias[..., 4, :] = -np.inf
    out, *grads = (place.numpy(x) for x in case.ours(place))
    truth = case.truth()
    assert not out[:, :, 4].any()
    for ours, exact in zip([out, *grads], truth, strict=True):
        assert error(ours, exact) < 1e-6


def test_large_logits_stay_finite_and_right(place):
    # q @ k.T of about 1e4: exp would overflow, and its rounding is the vendor's too
    Case(1, 2, 1, 70, 90, 64, spread=35.0, causal=True).check(place)


@pytest.mark.parametrize("lay", ["rows of heads", "packed", "reversed"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_strides_change_nothing(place, lay, dtype):
    def strided(x):
        if lay == "reversed":
            return x.flip(3).contiguous().flip(3) if x.is_cuda else x.mT.contiguous().mT
        width = 1 if lay == "rows of heads" else 3
        wide = torch.full((*x.shape[:1], x.shape[2], width, *x.shape[1::2]), torch.nan).to(x)
        view = wide[:, :, -1].transpose(1, 2)
        view.copy_(x)
        return view

    case = Case(2, 2, 1, 40, 70, 64, dtype=dtype, causal=True)
    for a, b in zip(case.ours(place), case.ours(place, strided), strict=True):
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("forward_kernel", "BLOCK_T=128 BLOCK_S=64 OVERLAP=True warps=8 stages=2"),
        ("forward_kernel", "BLOCK_T=64 BLOCK_S=128 OVERLAP=True warps=4 stages=2"),
        ("keys_kernel", "BLOCK_T=64 BLOCK_S=128 ONE_LOOP=False warps=8 stages=2"),
        ("queries_kernel", "BLOCK_T=128 BLOCK_S=64 warps=8 stages=2"),
    ],
)
@pytest.mark.parametrize("sizes", [(100, 290, True), (70, 150, False)])
def test_every_form_of_the_loops(place, kernel, name, sizes):
    T, S, causal = sizes
    case = Case(1, 2, 1, T, S, 64, dtype="bfloat16", causal=causal)
    with chosen(getattr(launch, kernel), name):
        case.check(place)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [64, 80])
def test_atomic_dq(place, dtype, size):
    case = Case(1, 4, 2, 100, 140, size, dtype=dtype, causal=True)
    with deterministic(False):
        case.check(place)


def test_repeats_to_the_last_bit(place):
    case = Case(1, 4, 2, place.size(100, 3000), place.size(140, 3000), 64, dtype="bfloat16")
    for a, b in zip(case.ours(place), case.ours(place), strict=True):
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize(("name", "most"), [("float32", 2e-6), ("tf32", 2e-3), ("bf16", 2e-2)])
def test_precision_inside(place, name, most):
    case = Case(1, 2, 1, 70, 90, 64, causal=True)
    with precision(name):
        ours = case.ours(place)
    for a, exact in zip(ours[:4], case.truth()[:4], strict=True):
        assert a.dtype == torch.float32
        assert error(place.numpy(a), exact) < most
    if name == "bf16":  # it did round
        assert error(place.numpy(ours[0]), case.truth()[0]) > 1e-4


def test_gradients_by_differences():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s) for s in ((1, 2, 5, 6), (1, 1, 7, 6), (1, 1, 7, 4)))
    kwargs = {"causal": True, "mask": rng.random((1, 2, 1, 7)) < 0.8}
    with minillm.backend("triton"):
        report = gradcheck.check_op(op, (q, k, v, rng.standard_normal((1, 1, 5, 7))), kwargs)
    assert report.passed, report


class Wrong:
    """A kernel that is launched with other arguments than it should be."""

    def __init__(self, kernel, change):
        self.kernel, self.change = kernel, change

    def __getitem__(self, grid):
        return lambda **a: self.kernel[grid](**(a | self.change(a)))


@pytest.mark.parametrize(
    ("kernel", "change"),
    [
        ("forward_kernel", lambda a: {"CAUSAL": False}),
        ("forward_kernel", lambda a: {"qk_scale": a["qk_scale"] / launch.LOG2E}),
        ("forward_kernel", lambda a: {"S": a["S"] - 1}),
        ("forward_kernel", lambda a: {"k_h": 0}),
        ("keys_kernel", lambda a: {"CAUSAL": False}),
        ("keys_kernel", lambda a: {"delta": a["delta"] * 0}),
        ("keys_kernel", lambda a: {"scale": 1.0}),
        ("keys_kernel", lambda a: {"lse": a["lse"] + 0.01}),
        ("queries_kernel", lambda a: {"CAUSAL": False}),
        ("queries_kernel", lambda a: {"scale": 1.0}),
        ("queries_kernel", lambda a: {"delta": a["delta"] * 0}),
    ],
)
def test_wrong_kernels_are_refused(place, monkeypatch, kernel, change):
    case = Case(1, 4, 2, 40, 50, 32, causal=True)
    case.check(place)
    monkeypatch.setattr(launch, kernel, Wrong(getattr(launch, kernel), change))
    with pytest.raises(AssertionError):
        case.check(place)


def test_no_queries_give_nothing(place):
    case = Case(2, 2, 1, 0, 5, 32)
    out, dq, dk, dv, _ = case.ours(place)
    assert out.shape == dq.shape == (2, 2, 0, 32)
    assert not dk.any()
    assert not dv.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": (1, 2, 4, 129), "k": (1, 2, 5, 129)}, "heads of 1 to 128, got 129"),
        ({"v": (1, 2, 5, 200)}, "v must have heads of 1 to 128, got 200"),
        ({"k": (1, 2, 5, 16)}, r"k must have shape \(1, any, any, 32\)"),
        ({"k": (1, 2, 0, 32), "v": (1, 2, 0, 32)}, "at least one key"),
        ({"q": (1, 3, 4, 32)}, "multiple of k's 2 heads"),
        ({"mask": torch.ones(1, 1, 4, 5)}, "mask must be an array of bool"),
        ({"mask": torch.ones(1, 1, 3, 5, dtype=torch.bool)}, "mask must have shape"),
        ({"bias": (4, 5)}, "bias must have shape"),
        ({"dtype": torch.int32}, "q must be float16, bfloat16 or float32, got torch.int32"),
        ({"kdtype": torch.float16}, "k must have q's dtype torch.float32, got torch.float16"),
        ({"block": 0}, "block must be at least 1"),
    ],
)
def test_errors(place, change, message):
    shapes = {"q": (1, 2, 4, 32), "k": (1, 2, 5, 32), "v": (1, 2, 5, 32), "bias": None}
    shapes |= {name: change[name] for name in change.keys() & shapes.keys()}
    tensors = {
        name: None if shape is None else torch.ones(shape, device=place.device)
        for name, shape in shapes.items()
    }
    tensors["q"] = tensors["q"].to(change.get("dtype", torch.float32))
    tensors["k"] = tensors["k"].to(change.get("kdtype", torch.float32))
    mask = change.get("mask")
    mask = mask if mask is None else mask.to(place.device)
    with pytest.raises(ValueError, match=message):
        flash_attention(**tensors, mask=mask, block=change.get("block", 128))


def test_more_blocks_than_the_grid_allows(place, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_GRID", (3, 3, 3))
    q = torch.ones(1, 4, 5, 32, device=place.device)
    with pytest.raises(ValueError, match="needs 4 blocks along axis 0 of the grid"):
        flash_attention(q, q, q)


def test_wrong_dout_never_launches(place):
    q = torch.ones(1, 1, 5, 32, device=place.device)
    _, cache = flash_attention(q, q, q)
    with pytest.raises(ValueError, match="dout must have shape"):
        flash_attention_backward(q[:, :, :3], cache)

"""Rotary positions in Triton against the specification."""

import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops._state import Registry
from minillm.ops.rotary import rotary as op
from minillm_kernels.triton import _rows
from minillm_kernels.triton.rotary import rotary, rotary_backward, tables, turn
from tests.kernels.harness import as_good_as, quantised


def vendor(place, x, positions, base, dtype, back=False):
    """Rotation by complex numbers, in torch, rounded once."""
    x = place.tensor(x, dtype).float()
    half = x.shape[-1] // 2
    speed = base ** (-torch.arange(half, device=x.device) / half)
    turned = torch.polar(
        torch.ones(len(positions), half, device=x.device),
        (-1 if back else 1) * torch.as_tensor(positions, device=x.device)[:, None] * speed,
    )
    y = torch.complex(x[..., :half], x[..., half:]) * turned
    return torch.cat([y.real, y.imag], -1)


@settings(max_examples=6)
@given(
    T=st.integers(1, 80),
    half=st.sampled_from([1, 3, 32, 40]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    given_positions=st.booleans(),
    seed=st.integers(0, 99),
)
def test_error_is_the_vendors_at_most_twice(place, T, half, dtype, given_positions, seed):
    rng = np.random.default_rng(seed)
    T = place.size(T, 40 * T)
    (x, exact), (dy, dexact) = (quantised(rng, (2, 3, T, 2 * half), dtype) for _ in range(2))
    positions = rng.integers(0, 500, T) if given_positions else np.arange(T)
    base = 1000.0
    y, cache = rotary(
        place.tensor(x, dtype),
        positions=place.tensor(positions) if given_positions else None,
        base=base,
    )
    dx = rotary_backward(place.tensor(dy, dtype), cache)
    forward, backward = Registry.ops["rotary"]["numpy"]
    truth, saved = forward(exact, positions=positions, base=base)
    for ours, theirs, right in (
        (y, vendor(place, x, positions, base, dtype), truth),
        (dx, vendor(place, dy, positions, base, dtype, back=True), backward(dexact, saved)),
    ):
        as_good_as(place.numpy(ours), place.numpy(theirs), right, dtype, f"rotary {dtype}")


def test_in_place_on_a_packed_projection(place):
    rng = np.random.default_rng(0)
    packed = place.tensor(rng.standard_normal((2, 9, 4, 10)), "float32")
    heads = packed.transpose(1, 2)[:, :3]
    kept, expected = packed.clone(), rotary(heads.clone())[0]
    turn(heads, *tables(None, 9, 10, 10000.0, heads), out=heads)
    assert torch.equal(heads, expected)
    assert torch.equal(packed[:, :, 3], kept[:, :, 3])  # the values' head is left alone


def test_the_other_way_round_is_noticed(place):
    x = place.tensor(np.random.default_rng(0).standard_normal((1, 1, 5, 8)), "float32")
    y, (_, _, (cos, sin)) = rotary(x)
    assert torch.allclose(turn(y, cos, sin, back=True), x, atol=1e-6)
    assert not torch.allclose(turn(y, cos, sin), x, atol=1e-2)


def test_gradients_by_differences():
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 6))
    with minillm.backend("triton"):
        report = gradcheck.check_op(op, (x,), {"positions": np.array([4, 0, 7]), "base": 50.0})
    assert report.passed, report


@pytest.mark.parametrize(
    ("shape", "positions", "message"),
    [
        ((1, 1, 4, 5), None, r"x must have shape \(B, H, T, D\) with D even"),
        ((1, 4, 6), None, r"x must have shape \(B, H, T, D\)"),
        ((1, 1, 4, 6), torch.arange(3), r"positions must have shape \(4,\), got \(3,\)"),
        ((1, 1, 4, 6), torch.ones(4), "positions must be an array of integers, got torch.float32"),
        ((1, 1, 4, 6), [0, 1, 2, 3], "positions must be an array of integers, got list"),
    ],
)
def test_errors(place, shape, positions, message):
    if isinstance(positions, torch.Tensor):
        positions = positions.to(place.device)
    with pytest.raises(ValueError, match=message):
        rotary(torch.ones(shape, device=place.device), positions=positions)


def test_bfloat16_on_a_turing_gpu(monkeypatch):
    monkeypatch.setattr(_rows, "arch", lambda: 75)
    x = types.SimpleNamespace(dtype=torch.bfloat16, is_cuda=True)
    with pytest.raises(ValueError, match=r"x is bfloat16, which needs a GPU of compute capability"):
        rotary.__wrapped__(x)

"""The attention kernel that is there to be read, against the specification in float64."""

import numpy as np
import pytest
import torch

import minillm
from minillm.ops.flash_attention import flash_attention
from minillm_kernels.triton import flash_attention_simple as simple
from tests.kernels.harness import quantised
from tests.kernels.triton.pairs import mutant

# (B, H, T, S, D): T and S no multiples of the block, D no power of two, more queries than keys
SHAPES = [(2, 3, 37, 50, 24), (1, 2, 50, 37, 5), (1, 1, 33, 33, 17), (1, 2, 1, 40, 3)]
SHAPES += [(1, 1, 1, 1, 1)]


def check(place, attend, shape, *, dtype="float32", causal=False, scale=None, block=16, spread=1.0):
    """`attend` within what rounding can do of the op in float64, out and log_sum."""
    B, H, T, S, D = shape
    rng = np.random.default_rng(list(shape))
    drawn = [quantised(rng, (B, H, n, D), dtype, spread) for n in (T, S, S)]
    with minillm.backend("numpy"):
        exact, cache = flash_attention(*(x for _, x in drawn), causal=causal, scale=scale)
    exact_sum = cache.saved[-1][..., 0]
    out, log_sum = attend(
        *(place.tensor(x) for x, _ in drawn), causal=causal, scale=scale, block=block
    )
    assert str(out.dtype) == str(log_sum.dtype) == f"torch.{dtype}"
    # A logit is a sum of D products, off by at most D eps of what their sizes sum up to; that moves
    # its weight by the same share, and an output is a mean of S values by such weights.
    factor = 1 / np.sqrt(D) if scale is None else abs(scale)
    eps = np.finfo(dtype).eps
    q, k, v = (np.abs(x) for _, x in drawn)
    logit = (D + 8) * eps * factor * (q @ k.swapaxes(-1, -2)).max()
    np.testing.assert_allclose(place.numpy(log_sum), exact_sum, rtol=8 * eps, atol=logit + S * eps)
    atol = (2 * logit + (S + 8) * eps) * v.max()
    np.testing.assert_allclose(place.numpy(out), exact, rtol=0, atol=atol)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_op(place, shape, causal):
    check(place, simple.flash_attention_simple, shape, causal=causal)


def test_agrees_in_float64(place):
    shape = (1, 2, 37, 50, 24)
    check(place, simple.flash_attention_simple, shape, dtype="float64", causal=True, block=32)


def test_large_logits_and_another_scale(place):
    check(place, simple.flash_attention_simple, SHAPES[0], spread=20.0, scale=-0.7)


def test_gaps_in_memory_change_nothing():
    rng = np.random.default_rng(5)
    wide = torch.from_numpy(rng.standard_normal((3, 2, 24, 1, 20)).astype(np.float32))
    q, k, v = wide[..., 0, :].transpose(-1, -2)  # (2, 20, 24) each
    q, k, v = (x[None] for x in (q, k, v))
    expected = simple.flash_attention_simple(*(x.contiguous() for x in (q, k, v)), block=16)
    given = simple.flash_attention_simple(q, k, v, block=16)
    assert all(torch.equal(a, b) for a, b in zip(expected, given, strict=True))


@pytest.mark.parametrize(
    ("old", "new", "causal"),
    [
        ("total = fade * total + ", "total = total + ", False),
        ("mixed = fade[:, None] * mixed\n", "mixed = 1.0 * mixed\n", False),
        ("seen = (cols < S)[None, :]", "seen = (cols < S + 1)[None, :]", False),
        ("rows[:, None] + diagonal", "rows[:, None]", True),
        ("first + BLOCK + diagonal)", "first + diagonal)", True),
        ("peak + tl.log(total)", "peak", False),
    ],
)
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new, causal):
    broken = mutant(simple, old, new, tmp_path).flash_attention_simple
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=r"Not equal to tolerance"):
        check(place, broken, SHAPES[0], causal=causal)


def test_wrong_arguments_are_named():
    q, k = torch.ones(1, 2, 5, 8), torch.ones(1, 2, 6, 8)
    with pytest.raises(ValueError, match=r"\(B, H, S, D\) twice, got .*\(1, 2, 6, 9\)"):
        simple.flash_attention_simple(q, k, torch.ones(1, 2, 6, 9))
    with pytest.raises(ValueError, match=r"all alike, got torch.float32, torch.float64"):
        simple.flash_attention_simple(q, k.double(), k)
    with pytest.raises(ValueError, match="at least 16, got 24"):
        simple.flash_attention_simple(q, k, k, block=24)


def test_no_queries_and_no_keys(place):
    none, some = torch.ones(1, 2, 0, 8), torch.ones(1, 2, 5, 8)
    none, some = (place.tensor(x.numpy()) for x in (none, some))
    out, log_sum = simple.flash_attention_simple(some, none, none)
    assert not out.any()
    assert not log_sum.any()
    assert simple.flash_attention_simple(none, some, some)[0].shape == (1, 2, 0, 8)

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops._attention import regroup
from minillm.ops.flash_attention import flash_attention
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention
from tests.ops.attention_cases import attention_cases, build, torch_attention
from tests.ops.harness import (
    BACKENDS,
    EPS,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


@given(case=attention_cases(longest=4), block=st.sampled_from([1, 2, 3, 100]))
def test_agrees_with_both_oracles(case, block):
    args, kwargs = build(case)
    oracle = torch_attention(**kwargs)
    kwargs["block"] = block
    check_op(flash_attention, args, kwargs, oracle=oracle, seed=case["seed"])


@given(case=attention_cases(longest=40), block=st.integers(1, 41))
def test_agrees_with_the_plain_one_at_any_block_size(case, block):
    args, kwargs = build(case)
    assert_same_as_plain(args, kwargs, "numpy", 1e-12, block)


def assert_same_as_plain(args, kwargs, backend, tol, block):
    rng = rng_of("flash")
    with minillm.backend(backend):
        out, cache = flash_attention(*args, **kwargs, block=block)
        dout = randn(rng, *out.shape)
        grads = flash_attention.backward(dout, cache)
    with minillm.backend("numpy"):
        expected, cache = scaled_dot_product_attention(*args, **kwargs)
        expected_grads = scaled_dot_product_attention.backward(dout, cache)
    assert_close(out, expected, tol, "out")
    assert_close(list(grads), list(expected_grads), tol, "gradient")


def spread(size, rng):
    """Logits all over -size to size: at 10 000 the largest takes everything."""
    q, k = randn(rng, 2, 4, 50, 8), randn(rng, 2, 2, 70, 8)
    return q * (size / largest_logit(q, k)), k


def level(size, rng):
    """Every logit near size, so that weights of all sizes remain."""
    q, k = randn(rng, 2, 4, 50, 8), randn(rng, 2, 2, 70, 8)
    q[..., 0] = k[..., 0] = np.sqrt(size * np.sqrt(8))
    return q, k


def largest_logit(q, k):
    logits = regroup(q, k.shape[1]) @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    return np.abs(logits).max()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 90, 1000, 10_000])
@pytest.mark.parametrize("make", [spread, level])
@pytest.mark.parametrize("backend", BACKENDS)
def test_precision_at_large_logits(backend, make, size, causal):
    rng = rng_of("large", size)
    q, k = make(size, rng)
    args = q, k, randn(rng, 2, 2, 70, 3), None
    largest = largest_logit(q, k)
    assert 0.9 * size < largest < 1.1 * size + 10
    tol = max(1e-12, 32 * EPS * largest)
    assert_same_as_plain(args, {"causal": causal}, backend, tol, block=16)


def peak_bytes(op, length, backend, *, bias=False, **kwargs):
    """The most memory that forward, backward and what lies between them held at once."""
    rng = rng_of("memory", length)
    q, k, v = (randn(rng, 1, 2, length, 4, dtype=np.float32) for _ in range(3))
    dout = randn(rng, 1, 2, length, 4, dtype=np.float32)
    added = randn(rng, 1, 2, 1, length, dtype=np.float32) if bias else None
    with minillm.backend(backend):
        tracemalloc.start()
        try:
            _, cache = op(q, k, v, added, **kwargs)
            op.backward(dout, cache)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("kwargs", [{}, {"causal": True}, {"bias": True}], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_grows_linearly(backend, kwargs):
    peak_bytes(flash_attention, 256, backend, block=64, **kwargs)  # what is allocated only once
    short, long = (peak_bytes(flash_attention, T, backend, block=64, **kwargs) for T in (512, 1536))
    assert long < 3.3 * short, f"{short} bytes at 512, {long} at 1536: more than 3 times as much"
    assert long < 1536 * 1536 * 4, f"{long} bytes would hold a (T, T) matrix"


def test_memory_of_the_plain_one_grows_quadratically():
    """The measurement above sees a (T, T) matrix when there is one."""
    short, long = (peak_bytes(scaled_dot_product_attention, T, "numpy") for T in (512, 1536))
    assert long > 8 * short
    assert long > 1536 * 1536 * 4


def test_saves_only_out_and_log_sum_exp():
    (q, k, v, bias), kwargs = build(CASE)
    with minillm.backend("numpy"):
        out, cache = flash_attention(q, k, v, bias, **kwargs, block=2)
    given = {id(a) for a in (q, k, v, bias, kwargs["mask"], out)}
    kept = [a for a in cache.saved if isinstance(a, np.ndarray) and id(a) not in given]
    assert [a.shape for a in kept] == [(*out.shape[:3], 1)]


def test_causal_blocks_wholly_above_the_diagonal_are_skipped(monkeypatch):
    module = sys.modules["minillm.ops.flash_attention"]
    visited = []

    def spy(q, k, bias, mask, scale, diagonal, rows, cols):
        visited.append((rows.start, cols.start))
        return block_logits(q, k, bias, mask, scale, diagonal, rows, cols)

    block_logits = module.block_logits
    monkeypatch.setattr(module, "block_logits", spy)
    q = randn(rng_of(1), 1, 1, 16, 2)
    with minillm.backend("numpy"):
        out, cache = flash_attention(q, q, q, causal=True, block=4)
        flash_attention.backward(out, cache)
    lower = [(row, col) for row in range(0, 16, 4) for col in range(0, row + 4, 4)]
    assert visited == lower + lower  # 10 of the 16, forward and backward


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_that_sees_nothing_gets_zeros(backend):
    rng = rng_of("blind")
    q, k, v = randn(rng, 2, 2, 7, 3), randn(rng, 2, 2, 4, 3), randn(rng, 2, 2, 4, 5)
    mask = np.ones((2, 1, 1, 4), bool)
    mask[1] = False  # a batch that is padding alone
    with minillm.backend(backend):
        out, cache = flash_attention(q, k, v, causal=True, mask=mask, block=2)
        grads = flash_attention.backward(randn(rng, *out.shape), cache)[:3]
    assert np.all(out[0, :, :3] == 0)
    assert np.all(out[1] == 0)
    assert np.all(out[0, :, 3:] != 0)
    assert np.all(grads[0][0, :, :3] == 0)
    assert all(np.all(g[1] == 0) for g in grads)
    assert all(np.all(np.isfinite(g)) for g in grads)


def test_an_additive_mask_of_minus_infinity_hides_like_a_mask():
    (q, k, v, _), kwargs = build(CASE)
    rng = rng_of("additive")
    bias = np.where(kwargs["mask"], 0.0, -np.inf)
    out, cache = flash_attention(q, k, v, bias, block=2)
    expected, cache_mask = flash_attention(q, k, v, mask=kwargs["mask"], block=2)
    dout = randn(rng, *out.shape)
    grads = flash_attention.backward(dout, cache)
    assert_close(out, expected, 1e-15, "out")
    assert_close(grads[:3], flash_attention.backward(dout, cache_mask)[:3], 1e-15, "gradient")
    assert np.all(np.isfinite(grads[3]))


def test_wrong_arguments_are_named():
    q = np.ones((1, 2, 3, 4))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        flash_attention(q, q, q, block=0)
    with pytest.raises(ValueError, match=r"v must have shape \(1, 2, 3, any\), got \(1, 2, 4, 4\)"):
        flash_attention(q, q, np.ones((1, 2, 4, 4)))
    with pytest.raises(ValueError, match="mask must be an array of bool, got dtype float64"):
        flash_attention(q, q, q, mask=np.ones((1, 1, 3, 3)))


CASE = {
    "batch": 2,
    "heads": 4,
    "kv_heads": 2,
    "queries": 3,
    "keys": 5,
    "width": 2,
    "value_width": 3,
    "causal": True,
    "scale": None,
    "bias": (True, False, True, False),
    "mask": (False, True, False, False),
    "seed": 1,
}


def test_every_element_agrees_with_differences():
    args, kwargs = build(CASE)
    check_op(flash_attention, args, kwargs | {"block": 2}, scope="full")


@wrong_backwards("flash_attention")
def test_kills(wrong):
    assert_killed(wrong)

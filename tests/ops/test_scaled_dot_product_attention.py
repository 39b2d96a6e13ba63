import numpy as np
import pytest
from hypothesis import given

import minillm
from minillm.ops.dropout import dropout
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention
from tests.ops.attention_cases import attention_cases, build, torch_attention
from tests.ops.harness import (
    BACKENDS,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


@given(case=attention_cases())
def test_agrees_with_both_oracles(case):
    args, kwargs = build(case)
    oracle = torch_attention(**kwargs)
    check_op(scaled_dot_product_attention, args, kwargs, oracle=oracle, seed=case["seed"])


@given(case=attention_cases(longest=3))
def test_dropped_weights_are_the_same_in_backward(case):
    args, kwargs = build(case)
    q, k = args[:2]
    shape = (*q.shape[:3], k.shape[2])

    def rng():
        return np.random.default_rng(case["seed"])

    kept = dropout(np.ones(shape), p=0.4, rng=rng())[0]
    check_op(
        scaled_dot_product_attention,
        args,
        {**kwargs, "dropout": 0.4, "rng": rng},
        oracle=torch_attention(**kwargs, kept=kept),
        seed=case["seed"],
    )


def small(seed, B=2, H=4, G=2, T=3, S=5, D=2):
    rng = rng_of("sdpa", seed)
    return randn(rng, B, H, T, D), randn(rng, B, G, S, D), randn(rng, B, G, S, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_that_sees_nothing_gets_zeros(backend):
    q, k, v = small(1, T=5, S=3)
    bias = randn(rng_of(2), 1, 1, 5, 3)
    with minillm.backend(backend):
        out, cache = scaled_dot_product_attention(q, k, v, bias, causal=True)  # T > S
        dout = randn(rng_of(3), *out.shape)
        dq, dk, dv, dbias = scaled_dot_product_attention.backward(dout, cache)
        # the rows that see keys owe nothing to the two that see none
        rest, _ = scaled_dot_product_attention(q[:, :, 2:], k, v, bias[:, :, 2:], causal=True)
    assert np.all(out[:, :, :2] == 0)
    assert np.all(out[:, :, 2:] != 0)
    assert np.all(dq[:, :, :2] == 0)
    assert np.all(dbias[:, :, :2] == 0)
    assert all(np.all(np.isfinite(g)) for g in (dq, dk, dv, dbias))
    assert_close(out[:, :, 2:], rest, 1e-15, "rows that see keys")


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_additive_mask_of_minus_infinity_hides_like_a_mask(backend):
    q, k, v = small(4)
    mask = rng_of(5).random((2, 1, 3, 5)) < 0.5
    mask[0, 0, 1] = False
    bias = np.where(mask, 0.0, -np.inf)
    with minillm.backend(backend):
        out, cache = scaled_dot_product_attention(q, k, v, bias)
        expected, cache_mask = scaled_dot_product_attention(q, k, v, mask=mask)
        dout = randn(rng_of(6), *out.shape)
        grads = scaled_dot_product_attention.backward(dout, cache)
        expected_grads = scaled_dot_product_attention.backward(dout, cache_mask)
    assert_close(out, expected, 1e-15, "out")
    assert_close(grads[:3], expected_grads[:3], 1e-15, "gradient")
    assert np.all(grads[3][~mask] == 0)
    assert np.all(np.isfinite(grads[3]))


def test_causal_lets_the_last_query_see_all_keys_and_no_query_the_future():
    q, k, v = small(7, T=3, S=5)
    before, _ = scaled_dot_product_attention(q, k, v, causal=True)
    last, _ = scaled_dot_product_attention(q[:, :, -1:], k, v)
    assert_close(before[:, :, -1:], last, 1e-15, "last query")
    k[:, :, 4], v[:, :, 4] = 9, -9  # the newest key: queries 0 and 1 may not notice
    after, _ = scaled_dot_product_attention(q, k, v, causal=True)
    assert np.array_equal(after[:, :, :2], before[:, :, :2])
    assert not np.allclose(after[:, :, 2], before[:, :, 2])


def test_generator_decides_what_is_dropped():
    q, k, v = small(8)

    def out(seed):
        rng = None if seed is None else np.random.default_rng(seed)
        return scaled_dot_product_attention(q, k, v, dropout=0.5, rng=rng)[0]

    assert np.array_equal(out(1), out(1))
    assert not np.allclose(out(1), out(2))
    assert np.array_equal(out(None), scaled_dot_product_attention(q, k, v)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_pick_the_best_key(dtype):
    q = np.full((1, 1, 1, 1), 1e4, dtype)
    k = np.array([1, -1, 0.5], dtype).reshape(1, 1, 3, 1)
    v = np.array([3, 5, 7], dtype).reshape(1, 1, 3, 1)
    out, cache = scaled_dot_product_attention(q, k, v)
    grads = scaled_dot_product_attention.backward(np.full_like(out, 2), cache)
    assert out == 3
    assert all(np.all(np.isfinite(g)) for g in grads[:3])


ONES = {"q": (2, 4, 3, 2), "k": (2, 2, 5, 2), "v": (2, 2, 5, 3)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"q": (4, 3, 2)}, r"q must have shape \(any, any, any, any\), got \(4, 3, 2\)"),
        ({"k": (2, 2, 5, 3)}, r"k must have shape \(2, any, any, 2\), got \(2, 2, 5, 3\)"),
        ({"v": (2, 2, 4, 3)}, r"v must have shape \(2, 2, 5, any\), got \(2, 2, 4, 3\)"),
        ({"q": (2, 3, 3, 2)}, "q must have a multiple of k's 2 heads, got 3"),
        ({"k": (2, 2, 0, 2), "v": (2, 2, 0, 3)}, "k must hold at least one key"),
        ({"bias": (3, 5)}, r"bias must have shape \(2, 4, 3, 5\), or 1 in any place, got \(3, 5\)"),
        ({"bias": (2, 4)}, r"bias must have shape \(2, 4, 3, 5\), or 1 in any place, got \(2, 4\)"),
        ({"bias": (2, 2, 3, 5)}, "bias must have shape"),
        ({"mask": (1, 1, 5, 5)}, "mask must have shape"),
    ],
)
def test_wrong_shapes_are_named(changed, message):
    arrays = {name: np.ones(shape) for name, shape in (ONES | changed).items()}
    if "mask" in arrays:
        arrays["mask"] = arrays["mask"].astype(bool)
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(**arrays)


def test_a_mask_of_floats_is_refused():
    arrays = {name: np.ones(shape) for name, shape in ONES.items()}
    with pytest.raises(ValueError, match="mask must be an array of bool, got dtype float64"):
        scaled_dot_product_attention(**arrays, mask=np.zeros((1, 1, 3, 5)))


def test_every_element_agrees_with_differences():
    args = *small(10), randn(rng_of(9), 1, 4, 1, 5)
    mask = np.array([True, True, False, True, True]).reshape(1, 1, 1, 5)
    kwargs = {"causal": True, "mask": mask, "dropout": 0.3, "rng": lambda: np.random.default_rng(3)}
    check_op(scaled_dot_product_attention, args, kwargs, scope="full")


@wrong_backwards("scaled_dot_product_attention")
def test_kills(wrong):
    assert_killed(wrong)

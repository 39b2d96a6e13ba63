import numpy as np
import pytest
from hypothesis import given

import minillm
from minillm.ops._attention import regroup
from minillm.ops._op import sum_to_shape
from minillm.ops._state import Registry
from minillm.ops.dropout import dropout
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention
from minillm.ops.softmax import softmax
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


def right(dout, saved):
    return Registry.ops["scaled_dot_product_attention"]["numpy"][1](dout, saved)


def gradients(dout, saved, *, through_softmax=softmax.backward, through_dropout=dropout.backward):
    """The backward once more, with places to go wrong in."""
    q, k, v, bias, scale, kept, cache_softmax, cache_dropout = saved
    H, G = q.shape[1], k.shape[1]
    dout = regroup(dout, G)
    dv = regroup(kept, G).swapaxes(-1, -2) @ dout
    dkept = regroup(dout @ v.swapaxes(-1, -2), H)
    dlogits = through_softmax(through_dropout(dkept, cache_dropout), cache_softmax)
    dbias = sum_to_shape(dlogits, bias.shape)
    dlogits = scale * regroup(dlogits, G)
    return regroup(dlogits @ k, H), dlogits.swapaxes(-1, -2) @ regroup(q, G), dv, dbias


def without_the_softmax_term(dout, saved):
    return gradients(dout, saved, through_softmax=lambda dy, cache: dy * cache.saved[0])


def scale_forgotten(dout, saved):
    dq, dk, dv, dbias = right(dout, saved)
    return dq / saved[4], dk / saved[4], dv, dbias


def scale_on_the_bias_too(dout, saved):
    dq, dk, dv, dbias = right(dout, saved)
    return dq, dk, dv, dbias * saved[4]


def dropout_forgotten(dout, saved):
    return gradients(dout, saved, through_dropout=lambda dy, cache: dy)


def mask_forgotten(dout, saved):
    q, k, v, bias, scale, *_ = saved
    _, cache = scaled_dot_product_attention(q, k, v, bias, scale=scale)
    return scaled_dot_product_attention.backward(dout, cache)


def one_head_of_each_group(dout, saved):
    dq, *_, dbias = right(dout, saved)
    first = np.zeros_like(dout)
    first[:, ::2] = dout[:, ::2]
    return dq, *right(first, saved)[1:3], dbias


def values_for_the_wrong_query(dout, saved):
    dq, dk, _, dbias = right(dout, saved)
    return dq, dk, right(dout[:, :, ::-1], saved)[2], dbias


WRONG = [
    without_the_softmax_term,
    scale_forgotten,
    scale_on_the_bias_too,
    dropout_forgotten,
    one_head_of_each_group,
    values_for_the_wrong_query,
]
MASK = np.array([True, True, False, True, True]).reshape(1, 1, 1, 5)


@wrong_backwards({f.__name__: f for f in WRONG})
def test_kills(wrong):
    args = *small(10), randn(rng_of(9), 1, 4, 1, 5)
    kwargs = {"causal": True, "mask": MASK, "dropout": 0.3, "rng": lambda: np.random.default_rng(3)}
    assert_killed(scaled_dot_product_attention, wrong, args, kwargs)


@wrong_backwards({"mask_forgotten": mask_forgotten})
def test_kills_with_a_mask_alone(wrong):
    args = *small(11), randn(rng_of(12), 1, 4, 1, 5)
    assert_killed(scaled_dot_product_attention, wrong, args, {"mask": MASK})

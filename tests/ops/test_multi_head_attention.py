import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.dropout import dropout
from minillm.ops.multi_head_attention import multi_head_attention
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention
from tests.ops.attention_cases import projections, torch_multi_head
from tests.ops.harness import (
    BACKENDS,
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    upstream,
    wrong_backwards,
)


@st.composite
def cases(draw):
    kv_heads, cross = draw(st.sampled_from([1, 2])), draw(st.booleans())
    return {
        "batch": draw(st.sampled_from([1, 2])),
        "heads": kv_heads * draw(st.sampled_from([1, 2])),
        "kv_heads": kv_heads,
        "queries": draw(st.integers(1, 4)),
        "keys": draw(st.integers(1, 4)) if cross else None,
        "channels": draw(st.sampled_from([1, 3])),
        "width": 2,
        "bias": draw(st.booleans()),
        "causal": draw(st.booleans()),
        "masked": draw(st.booleans()),
        "rotary_base": None if cross else draw(st.sampled_from([None, 50.0])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def build(case):
    """(x, params, context) and the keyword arguments of a drawn case."""
    rng = rng_of("multi_head_attention", case)
    B, T, C, S = case["batch"], case["queries"], case["channels"], case["keys"]
    x, context = randn(rng, B, T, C), None if S is None else randn(rng, B, S, C)
    heads = case["heads"], case["kv_heads"]
    params = projections(rng, C, *heads, case["width"], bias=case["bias"])
    mask = None
    if case["masked"]:
        mask = rng.random((B, 1, 1, S or T)) < 0.6
        mask[-1] = False
    names = ("causal", "rotary_base")
    kwargs = {"n_head": heads[0], "n_kv_head": heads[1], "mask": mask}
    return (x, params, context), kwargs | {name: case[name] for name in names}


@given(case=cases())
def test_agrees_with_both_oracles(case):
    args, kwargs = build(case)
    oracle = torch_multi_head(**kwargs)
    check_op(multi_head_attention, args, kwargs, oracle=oracle, seed=case["seed"])


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("mask", [None, "padding", "causal"])
def test_agrees_with_the_layer_of_torch(mask, cross):
    """torch.nn.MultiheadAttention: as many key as query heads, H * D = C."""
    rng, (B, T, S, C, H) = rng_of("torch", mask, cross), (2, 3, 5 if cross else 3, 6, 2)
    x, context = randn(rng, B, T, C), randn(rng, B, S, C) if cross else None
    params = projections(rng, C, H, H, C // H)
    seen = np.tri(T, S, S - T, dtype=bool)[None, None] if mask == "causal" else None
    if mask == "padding":
        seen = rng.random((B, 1, 1, S)) < 0.5
        seen[..., 1] = True
    layer = torch.nn.MultiheadAttention(C, H, batch_first=True, dtype=torch.float64)

    def oracle(x, params, context):
        source = x if context is None else context
        weights = {
            "in_proj_weight": params["qkv"]["weight"].T,
            "in_proj_bias": params["qkv"]["bias"],
            "out_proj.weight": params["out"]["weight"].T,
            "out_proj.bias": params["out"]["bias"],
        }
        hidden = {}
        if mask == "padding":
            hidden["key_padding_mask"] = torch.tensor(~seen[:, 0, 0])
        if mask == "causal":
            hidden["attn_mask"] = torch.tensor(~seen[0, 0])
        return torch.func.functional_call(layer, weights, (x, source, source), hidden)[0]

    kwargs = {"n_head": H, "causal": True} if mask == "causal" else {"n_head": H, "mask": seen}
    check_op(multi_head_attention, (x, params, context), kwargs, oracle=oracle)


SMALL = {
    "batch": 2,
    "heads": 4,
    "kv_heads": 2,
    "queries": 3,
    "keys": None,
    "channels": 5,
    "width": 2,
    "bias": True,
    "causal": True,
    "masked": False,
    "rotary_base": 50.0,
    "seed": 1,
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropped_weights_are_the_same_in_backward(backend):
    (x, params, _), kwargs = build(SMALL | {"masked": True})

    def rng():
        return np.random.default_rng(3)

    kept = dropout(np.ones((2, 4, 3, 3)), p=0.4, rng=rng())[0]
    oracle = torch_multi_head(**kwargs, kept=kept)
    kwargs |= {"dropout": 0.4, "rng": rng}
    check_op(multi_head_attention, (x, params, None), kwargs, oracle=oracle, backends=[backend])


def test_either_attention_gives_the_same_numbers(monkeypatch):
    args, kwargs = build(SMALL)

    def run():
        with minillm.backend("numpy"), minillm.trace() as steps:
            out, cache = multi_head_attention(*args, **kwargs)
            grads = multi_head_attention.backward(upstream(out), cache)
        return [step.name for step in steps], [out, *grads]

    names, numbers = run()
    module = sys.modules["minillm.ops.multi_head_attention"]
    monkeypatch.setattr(module, "flash_attention", scaled_dot_product_attention)
    plain_names, plain_numbers = run()
    assert "flash_attention" in names
    assert "scaled_dot_product_attention" in plain_names
    assert_close(numbers, plain_numbers, ORACLE_TOL, "numbers")


def test_positions_are_those_of_the_queries_and_keys():
    (x, params, _), kwargs = build(SMALL)
    here, _ = multi_head_attention(x, params, **kwargs)
    moved, _ = multi_head_attention(x, params, **kwargs, positions=np.arange(3) + 7)
    apart, _ = multi_head_attention(x, params, **kwargs, positions=np.arange(3) * 7)
    assert_close(moved, here, 1e-12, "all moved by 7")
    assert not np.allclose(apart, here)


def test_a_bias_may_be_none_or_absent():
    (x, params, _), kwargs = build(SMALL)
    none = {name: part | {"bias": None} for name, part in params.items()}
    absent = {name: {"weight": part["weight"]} for name, part in params.items()}
    out, cache = multi_head_attention(x, none, **kwargs)
    _, dparams, _ = multi_head_attention.backward(out, cache)
    assert dparams["qkv"]["bias"] is None
    assert dparams["out"]["bias"] is None
    out_absent, cache = multi_head_attention(x, absent, **kwargs)
    _, dabsent, _ = multi_head_attention.backward(out, cache)
    assert np.array_equal(out, out_absent)
    assert dabsent["qkv"].keys() == {"weight"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_kv_head": 3}, "n_head must be a multiple of n_kv_head, got 4 and 3"),
        ({"n_head": 0}, "n_head must be a multiple of n_kv_head, got 0 and 2"),
        ({"n_head": 6}, r"qkv.weight must have a multiple of 10 columns .*, got 16"),
        ({"x": np.ones((2, 3, 4))}, r"qkv.weight must have shape \(4, any\), got \(5, 16\)"),
        ({"x": np.ones((3, 5))}, r"x must have shape \(any, any, any\), got \(3, 5\)"),
        ({"qkv": {"bias": np.ones(16)}}, r"missing \['qkv.weight'\], not expected \[\]"),
        ({"gate": np.ones(3)}, r"missing \[\], not expected \['gate'\]"),
        (
            {"qkv": {"weight": np.ones((5, 16)), "bias": np.ones(15)}},
            r"qkv.bias must have shape \(16,\), got \(15,\)",
        ),
        (
            {"out": {"weight": np.ones((5, 8))}},
            r"out.weight must have shape \(8, 5\), got \(5, 8\)",
        ),
        ({"context": np.ones((2, 3, 5))}, "rotary_base must be None with a context"),
        ({"context": np.ones((2, 4, 3)), "rotary_base": None}, r"got \(5, 8\)"),
        ({"context": np.ones((1, 4, 5)), "rotary_base": None}, "k must have shape"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_arguments_are_named(backend, changed, message):
    (x, params, _), kwargs = build(SMALL)
    arguments = {"x": x, "context": None} | kwargs
    for name, value in changed.items():
        (arguments if name in arguments else params)[name] = value
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        multi_head_attention(params=params, **arguments)


def test_every_element_agrees_with_differences():
    args, kwargs = build(SMALL)
    check_op(multi_head_attention, args, kwargs, scope="full")


@wrong_backwards("multi_head_attention")
def test_kills(wrong):
    assert_killed(wrong)

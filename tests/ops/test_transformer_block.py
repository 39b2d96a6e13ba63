import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.dropout import dropout
from minillm.ops.transformer_block import transformer_block
from tests.ops.attention_cases import projections, torch_multi_head
from tests.ops.harness import (
    BACKENDS,
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
    kv_heads = draw(st.sampled_from([1, 2]))
    return {
        "batch": draw(st.sampled_from([1, 2])),
        "rows": draw(st.integers(1, 3)),
        "channels": draw(st.sampled_from([2, 3])),
        "hidden": draw(st.sampled_from([1, 4])),
        "heads": kv_heads * draw(st.sampled_from([1, 2])),
        "kv_heads": kv_heads,
        "norm": draw(st.sampled_from(["layer", "rms"])),
        "mlp": draw(st.sampled_from(["gelu", "swiglu"])),
        "bias": draw(st.booleans()),
        "causal": draw(st.booleans()),
        "masked": draw(st.booleans()),
        "rotary_base": draw(st.sampled_from([None, 50.0])),
        "eps": draw(st.sampled_from([1e-5, 0.1])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def build(case):
    """(x, params) and the keyword arguments of a drawn case."""
    rng = rng_of("transformer_block", case)
    B, T, C, F = (case[name] for name in ("batch", "rows", "channels", "hidden"))

    def norm():
        gain = {"gain": randn(rng, C)}
        return gain | ({"bias": randn(rng, C)} if case["norm"] == "layer" else {})

    def part(n_in, n_out):
        weight = randn(rng, n_in, n_out) / math.sqrt(n_in)
        if case["mlp"] == "swiglu":
            return {"weight": weight}
        return {"weight": weight, "bias": randn(rng, n_out) if case["bias"] else None}

    gate = {"gate": part(C, F)} if case["mlp"] == "swiglu" else {}
    heads = case["heads"], case["kv_heads"]
    params = {
        "norm1": norm(),
        "attention": projections(rng, C, *heads, 2, bias=case["bias"]),
        "norm2": norm(),
        "mlp": gate | {"up": part(C, F), "down": part(F, C)},
    }
    mask = None
    if case["masked"]:
        mask = rng.random((B, 1, 1, T)) < 0.6
        mask[-1] = False
    kwargs = {"n_head": heads[0], "n_kv_head": heads[1], "mask": mask}
    kwargs |= {name: case[name] for name in ("norm", "mlp", "causal", "rotary_base")}
    return (randn(rng, B, T, C), params), kwargs | {"eps": case["eps"]}


def torch_block(*, norm, mlp, eps, drops=(1, 1), **attention):
    """The block composed of torch's own parts; drops: what the two branches are multiplied by."""
    nn = torch.nn.functional

    def normed(x, p):
        if norm == "layer":
            return nn.layer_norm(x, x.shape[-1:], p["gain"], p["bias"], eps)
        return nn.rms_norm(x, x.shape[-1:], p["gain"], eps)

    def thought(x, p):
        def rows(x, part):
            return nn.linear(x, part["weight"].T, part.get("bias"))

        if mlp == "gelu":
            return rows(nn.gelu(rows(x, p["up"]), approximate="tanh"), p["down"])
        return rows(nn.silu(rows(x, p["gate"])) * rows(x, p["up"]), p["down"])

    def oracle(x, params):
        looked = torch_multi_head(**attention)(
            normed(x, params["norm1"]), params["attention"], None
        )
        x = x + drops[0] * looked
        return x + drops[1] * thought(normed(x, params["norm2"]), params["mlp"])

    return oracle


@given(case=cases())
def test_agrees_with_both_oracles(case):
    args, kwargs = build(case)
    check_op(transformer_block, args, kwargs, oracle=torch_block(**kwargs), seed=case["seed"])


SMALL = {
    "batch": 2,
    "rows": 3,
    "channels": 4,
    "hidden": 5,
    "heads": 2,
    "kv_heads": 1,
    "norm": "layer",
    "mlp": "gelu",
    "bias": True,
    "causal": True,
    "masked": False,
    "rotary_base": None,
    "eps": 0.1,
    "seed": 1,
}


def make_rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_dropped_channels_are_the_same_in_backward(norm):
    """The generator is read in the order in which the parts run, attention's weights first."""
    args, kwargs = build(SMALL | {"norm": norm})
    rng = make_rng()
    kept = dropout(np.ones((2, 2, 3, 3)), p=0.2, rng=rng)[0]
    drops = [torch.tensor(dropout(np.ones((2, 3, 4)), p=0.4, rng=rng)[0]) for _ in range(2)]
    oracle = torch_block(**kwargs, drops=drops, kept=kept)
    kwargs |= {"dropout": 0.4, "attention_dropout": 0.2, "rng": make_rng}
    check_op(transformer_block, args, kwargs, oracle=oracle)


def test_without_a_generator_nothing_is_dropped():
    args, kwargs = build(SMALL)
    out, _ = transformer_block(*args, **kwargs)
    off, _ = transformer_block(*args, **kwargs, dropout=0.4, attention_dropout=0.4)
    on, _ = transformer_block(*args, **kwargs, dropout=0.4, rng=make_rng())
    assert np.array_equal(out, off)
    assert not np.allclose(out, on)


def test_positions_reach_the_attention():
    args, kwargs = build(SMALL | {"rotary_base": 50.0})
    here, _ = transformer_block(*args, **kwargs)
    moved, _ = transformer_block(*args, **kwargs, positions=np.arange(3) + 7)
    apart, _ = transformer_block(*args, **kwargs, positions=np.arange(3) * 7)
    assert_close(moved, here, 1e-12, "all moved by 7")
    assert not np.allclose(apart, here)


def test_trace_lists_the_parts_in_order():
    args, kwargs = build(SMALL)
    with minillm.backend("numpy"), minillm.trace() as steps:
        out, cache = transformer_block(*args, **kwargs)
        transformer_block.backward(upstream(out), cache)
    parts = [
        "layer_norm",
        "multi_head_attention",
        "dropout",
        "add_layer_norm",
        "mlp_gelu",
        "dropout",
    ]
    names = [step.name for step in steps if step.depth == 1]
    assert names == parts + [f"{name}_backward" for name in reversed(parts)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "batch"}, "norm must be 'layer' or 'rms', got 'batch'"),
        ({"mlp": "relu"}, "mlp must be 'gelu' or 'swiglu', got 'relu'"),
        ({"norm": "rms"}, r"norm1 must hold gain: missing \[\], not expected \['bias'\]"),
        (
            {"mlp": "swiglu"},
            r"mlp must hold .*: missing \['gate.weight'\], not expected",
        ),
        ({"x": np.ones((3, 4))}, r"x must have shape \(any, any, any\), got \(3, 4\)"),
        ({"norm3": {}}, "params must hold .*, got .*'norm3'"),
        ({"n_head": 3}, "qkv.weight must have a multiple of 5 columns"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_arguments_are_named(backend, changed, message):
    (x, params), kwargs = build(SMALL)
    arguments = {"x": x} | kwargs
    for name, value in changed.items():
        (arguments if name in arguments else params)[name] = value
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        transformer_block(params=params, **arguments)


def test_every_element_agrees_with_differences():
    args, kwargs = build(SMALL)
    kwargs |= {"dropout": 0.4, "attention_dropout": 0.2, "rng": make_rng}
    check_op(transformer_block, args, kwargs, scope="full")


@wrong_backwards("transformer_block")
def test_kills(wrong):
    assert_killed(wrong)

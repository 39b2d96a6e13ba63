import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from transformers import LlamaConfig, LlamaForCausalLM

import minillm
from minillm.models import gpt as model
from minillm.models.gpt import GPTConfig, gpt, gpt_hidden, gpt_loss
from minillm.ops import cross_entropy, dropout, embedding, linear, transformer_block
from minillm.ops._state import Registry
from minillm.tree import flatten, leaves
from tests.models.gpt_cases import (
    CONFIGS,
    LLAMA,
    SEEDS,
    TINY,
    random_ids,
    random_params,
    torch_gpt,
)
from tests.ops.harness import (
    BACKENDS,
    ORACLE_TOL,
    assert_close,
    assert_refused,
    check_op,
    torch_oracle,
    upstream,
    wrong_backwards,
)

BOTH = pytest.mark.parametrize(
    "config", [TINY, dataclasses.replace(TINY, **LLAMA)], ids=["gpt2", "llama"]
)


def case(config, seed=1, with_targets=False):
    kwargs = {"ids": random_ids(config, seed), "config": config}
    if with_targets:
        kwargs["targets"] = random_ids(config, seed + 1)
        kwargs["targets"][0, 1] = -100
    return random_params(config, seed), kwargs


def torch_loss(config, ids, targets, drops=None):
    def oracle(params):
        logits = torch_gpt(config, ids, drops)(params)
        goal = torch.tensor(targets).flatten()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), goal)

    return oracle


@given(config=CONFIGS, seed=SEEDS)
def test_logits_of_every_configuration_agree_with_torch(config, seed):
    params, kwargs = case(config, seed)
    oracle = torch_gpt(config, kwargs["ids"])
    check_op(gpt, (params,), kwargs, oracle=oracle, seed=seed)


@given(config=CONFIGS, seed=SEEDS)
def test_loss_of_every_configuration_agrees_with_torch(config, seed):
    params, kwargs = case(config, seed, with_targets=True)
    oracle = torch_loss(**kwargs)
    check_op(gpt_loss, (params,), kwargs, oracle=oracle, seed=seed)


@BOTH
def test_every_element_of_the_gradients_agrees_with_differences(config):
    params, kwargs = case(config)
    check_op(gpt, (params,), kwargs, scope="full")


@BOTH
def test_every_element_of_the_loss_agrees_with_differences(config):
    params, kwargs = case(config, with_targets=True)
    check_op(gpt_loss, (params,), kwargs, scope="full")


def test_every_element_of_the_hidden_rows_agrees_with_differences():
    params, kwargs = case(dataclasses.replace(TINY, n_layer=1))
    check_op(gpt_hidden, (params,), kwargs, scope="full")


@BOTH
@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_is_the_cross_entropy_of_the_logits(backend, config):
    params, kwargs = case(config, with_targets=True)
    targets = kwargs.pop("targets")
    with minillm.backend(backend):
        logits, cache_logits = gpt(params, **kwargs)
        expected, cache_expected = cross_entropy(logits, targets=targets)
        loss, cache = gpt_loss(params, targets=targets, **kwargs)
        grads = gpt_loss.backward(0.7, cache)
        dlogits = cross_entropy.backward(0.7, cache_expected)
        expected_grads = gpt.backward(dlogits, cache_logits)
    assert_close(loss, expected, ORACLE_TOL, "loss")
    assert_close(grads, expected_grads, ORACLE_TOL, "gradient of the loss")


@pytest.mark.parametrize("with_targets", [False, True])
def test_a_tied_weight_is_one_leaf_with_both_gradients(with_targets):
    op = gpt_loss if with_targets else gpt
    params, kwargs = case(TINY, with_targets=with_targets)
    out, cache = op(params, **kwargs)
    dout = upstream(out)
    tied = op.backward(dout, cache)
    apart_kwargs = kwargs | {"config": dataclasses.replace(TINY, tied=False)}
    apart_out, apart_cache = op(params | {"head": params["wte"].copy()}, **apart_kwargs)
    apart = op.backward(dout, apart_cache)
    assert "head" not in tied
    assert_close(out, apart_out, ORACLE_TOL, "output")
    assert_close(tied["wte"], apart["wte"] + apart["head"], ORACLE_TOL, "gradient")
    assert np.abs(apart["wte"]).max() > 0.01
    assert np.abs(apart["head"]).max() > 0.01


def make_rng():
    return np.random.default_rng(5)


def masks(config, shape):
    """What gpt multiplies by, drawn in the order of its parts: the embedding, then in each block
    the attention's weights and the two branches."""
    rng, (B, T) = make_rng(), shape

    def drawn(*shape):
        return dropout(np.ones(shape), p=config.dropout, rng=rng)[0]

    def rows():
        return torch.tensor(drawn(B, T, config.n_embd))

    first = rows()
    return first, *[(drawn(B, config.n_head, T, T), rows(), rows()) for _ in range(config.n_layer)]


@BOTH
def test_dropout_lies_where_gpt2_has_it(config):
    params, kwargs = case(config)
    oracle = torch_gpt(config, kwargs["ids"], masks(config, kwargs["ids"].shape))
    kwargs["rng"] = make_rng
    check_op(gpt, (params,), kwargs, oracle=oracle)


def test_every_element_with_dropout_agrees_with_differences():
    params, kwargs = case(dataclasses.replace(TINY, n_layer=1), with_targets=True)
    check_op(gpt_loss, (params,), kwargs | {"rng": make_rng}, scope="full")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_generator_decides_what_is_dropped(backend):
    params, kwargs = case(TINY)
    with minillm.backend(backend):
        off, one, same, other = (
            gpt(params, rng=rng, **kwargs)[0]
            for rng in (None, make_rng(), make_rng(), np.random.default_rng(6))
        )
        kwargs["config"] = dataclasses.replace(TINY, dropout=0.0)
        never, _ = gpt(params, rng=make_rng(), **kwargs)
    assert np.array_equal(one, same)
    assert np.array_equal(off, never)
    assert not np.allclose(one, other)
    assert not np.allclose(one, off)


LLAMA_NAMES = {
    "embed_tokens": "wte",
    "norm": "norm.gain",
    "input_layernorm": "norm1.gain",
    "post_attention_layernorm": "norm2.gain",
    "self_attn.o_proj": "attention.out.weight",
    "mlp.gate_proj": "mlp.gate.weight",
    "mlp.up_proj": "mlp.up.weight",
    "mlp.down_proj": "mlp.down.weight",
}


def llama_weights(params, config):
    """Our params under the names of LlamaForCausalLM, whose linear weights are (C_out, C_in)."""
    weights = {
        "model.embed_tokens.weight": params["wte"],
        "model.norm.weight": params["norm"]["gain"],
        "lm_head.weight": params["head"],
    }
    H, G, D = config.n_head, config.kv_heads, config.head_size
    for i, block in enumerate(params["blocks"]):
        flat, before = flatten(block), f"model.layers.{i}."
        for theirs, ours in LLAMA_NAMES.items():
            if ours in flat:
                weights[f"{before}{theirs}.weight"] = (
                    flat[ours] if ours.endswith("gain") else flat[ours].T
                )
        qkv = flat["attention.qkv.weight"].T
        q, k, v = qkv[: H * D], qkv[H * D : (H + G) * D], qkv[(H + G) * D :]
        for name, part in zip("qkv", (q, k, v), strict=True):
            weights[f"{before}self_attn.{name}_proj.weight"] = part
    return weights


@pytest.mark.parametrize("backend", BACKENDS)
def test_llama_choices_agree_with_transformers(backend):
    choices = LLAMA | {"n_head": 4, "n_kv_head": 2, "n_embd": 16, "n_inner": 11, "eps": 1e-3}
    config = dataclasses.replace(TINY, block_size=7, **choices)
    params, kwargs = random_params(config, 2), {"ids": random_ids(config, 2, time=7)}
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.n_embd,
            intermediate_size=config.inner,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.block_size,
            rms_norm_eps=config.eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
            rope_theta=config.rotary_base,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).double()

    def oracle(params):
        weights = llama_weights(params, config)
        assert weights.keys() == theirs.state_dict().keys()
        return torch.func.functional_call(
            theirs, weights, torch.tensor(kwargs["ids"]), {"use_cache": False}
        ).logits

    with minillm.backend(backend):
        out, cache = gpt(params, config=config, **kwargs)
        dout = upstream(out)
        grads = gpt.backward(dout, cache)
    expected, (expected_grads,) = torch_oracle(oracle, (params,), dout)
    # theirs computes its angles and norms in float32, whatever the weights
    tol = 100 * np.finfo(np.float32).eps
    assert_close(out, expected, tol, "logits")
    assert_close(grads, expected_grads, tol, "gradient")


def hidden_backward(dhidden, saved, *, normed=True, dropped=True, in_order=False, rows=None):
    """gpt_hidden's backward, with one step of it changed."""
    params, _, caches = saved
    cache_wte, cache_wpe, cache_drop, cache_blocks, cache_norm = caches
    dx, dgain, dbias = minillm.ops.layer_norm.backward(dhidden, cache_norm)
    dx = dx if normed else dhidden
    dblocks = {}
    order = list(enumerate(cache_blocks))
    for i, cache in order if in_order else reversed(order):
        dx, dblocks[i] = transformer_block.backward(dx, cache)
    if dropped:
        dx = dropout.backward(dx, cache_drop)
    dposition = dx.sum(0) if rows is None else dx[rows]
    return {
        "wte": embedding.backward(dx, cache_wte),
        "wpe": embedding.backward(dposition, cache_wpe),
        "blocks": [dblocks[i] for i in range(len(params["blocks"]))],
        "norm": {"gain": dgain, "bias": dbias},
    }


def last_norm_skipped(dhidden, saved):
    return hidden_backward(dhidden, saved, normed=False)


def first_dropout_forgotten(dhidden, saved):
    return hidden_backward(dhidden, saved, dropped=False)


def blocks_not_reversed(dhidden, saved):
    return hidden_backward(dhidden, saved, in_order=True)


def position_of_one_text_only(dhidden, saved):
    return hidden_backward(dhidden, saved, rows=-1)


def blocks_exchanged(dhidden, saved):
    grads = hidden_backward(dhidden, saved)
    return grads | {"blocks": grads["blocks"][::-1]}


def wte_instead_of_wpe(dhidden, saved):
    grads = hidden_backward(dhidden, saved)
    return grads | {"wpe": grads["wte"][: len(grads["wpe"])]}


WRONG_HIDDEN = [
    last_norm_skipped,
    first_dropout_forgotten,
    blocks_not_reversed,
    position_of_one_text_only,
    blocks_exchanged,
    wte_instead_of_wpe,
]


def right(op, dout, saved):
    return Registry.ops[op.__name__]["numpy"][1](dout, saved)


def head_gradient(dlogits, saved):
    return linear.backward(dlogits, saved[2])[1].T


def tied_head_forgotten(dlogits, saved):
    grads = right(gpt, dlogits, saved)
    return grads | {"wte": grads["wte"] - head_gradient(dlogits, saved)}


def only_the_tied_head(dlogits, saved):
    return right(gpt, dlogits, saved) | {"wte": head_gradient(dlogits, saved)}


def tied_head_twice(dlogits, saved):
    grads = right(gpt, dlogits, saved)
    return grads | {"wte": grads["wte"] + head_gradient(dlogits, saved)}


def upstream_forgotten(dloss, saved):
    return right(gpt_loss, 1.0, saved)


def loss_head_forgotten(dloss, saved):
    _, cache_hidden, cache_head = saved
    dhidden, _, _ = minillm.ops.linear_cross_entropy.backward(dloss, cache_head)
    return gpt_hidden.backward(dhidden, cache_hidden)


@wrong_backwards(WRONG_HIDDEN)
def test_kills_hidden(wrong):
    params, kwargs = case(TINY)
    assert_refused(gpt_hidden, wrong, (params,), kwargs | {"rng": make_rng})


@wrong_backwards([tied_head_forgotten, only_the_tied_head, tied_head_twice])
def test_kills_logits(wrong):
    params, kwargs = case(TINY)
    assert_refused(gpt, wrong, (params,), kwargs)


@wrong_backwards([upstream_forgotten, loss_head_forgotten])
def test_kills_loss(wrong):
    params, kwargs = case(TINY, with_targets=True)
    assert_refused(gpt_loss, wrong, (params,), kwargs)


def test_a_later_token_changes_no_earlier_logits():
    params, kwargs = case(TINY)
    before, _ = gpt(params, **kwargs)
    kwargs["ids"][:, 2] = (kwargs["ids"][:, 2] + 1) % TINY.vocab_size
    after, _ = gpt(params, **kwargs)
    assert np.array_equal(before[:, :2], after[:, :2])
    assert not np.allclose(before[:, 2], after[:, 2])


def test_trace_lists_the_parts():
    params, kwargs = case(TINY, with_targets=True)
    with minillm.trace() as steps:
        gpt_loss(params, **kwargs)
    names = [step.name for step in steps if step.depth <= 2]
    blocks = ["transformer_block"] * TINY.n_layer
    inside = ["embedding", "embedding", "dropout", *blocks, "layer_norm"]
    assert names == ["gpt_loss", "gpt_hidden", *inside, "linear_cross_entropy"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((1, 5), int), r"ids must be \(B, T\) with T <= 4, got shape \(1, 5\)"),
        (np.zeros(3, int), r"ids must be \(B, T\) with T <= 4, got shape \(3,\)"),
        (np.zeros((1, 3)), "ids must .*integers, got .*float64"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_ids_are_named(backend, ids, message):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        gpt(random_params(TINY, 1), ids=ids, config=TINY)


def test_wrong_params_are_named():
    params, kwargs = case(TINY)
    with pytest.raises(ValueError, match=r"params norm must hold gain, bias: missing \['bias'\]"):
        gpt(params | {"norm": {"gain": params["norm"]["gain"]}}, **kwargs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, got 0"),
        ({"vocab_size": None}, "vocab_size must be a whole number of at least 1, got None"),
        ({"n_layer": True}, "n_layer must be a whole number of at least 1, got True"),
        ({"block_size": -1}, "block_size must be a whole number of at least 1, got -1"),
        ({"n_inner": 2.5}, "n_inner must be a whole number of at least 1, got 2.5"),
        ({"n_embd": 5}, "n_embd 5 must be a multiple of n_head 2"),
        ({"n_kv_head": 3}, "n_head 2 must be a multiple of n_kv_head 3"),
        ({"n_embd": 6, "position": "rotary"}, "rotary positions need an even head size, got 3"),
        ({"norm": "batch"}, r"norm must be one of \('layer', 'rms'\), got 'batch'"),
        ({"mlp": "relu"}, r"mlp must be one of \('gelu', 'swiglu'\), got 'relu'"),
        ({"position": "alibi"}, r"position must be one of \('learned', 'rotary'\), got 'alibi'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": float("nan")}, r"dropout must be in \[0, 1\), got nan"),
        ({"eps": 0.0}, "eps must be a number above 0, got 0.0"),
        ({"rotary_base": -1.0}, "rotary_base must be a number above 0, got -1.0"),
    ],
)
def test_wrong_configurations_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changed)


def test_sizes_that_follow_from_others():
    config = GPTConfig(vocab_size=7, n_head=3, n_embd=48)
    assert (config.kv_heads, config.head_size, config.inner) == (3, 16, 192)
    assert dataclasses.replace(config, mlp="swiglu").inner == 128
    assert dataclasses.replace(config, n_inner=5, n_kv_head=1).inner == 5


def test_init_is_gpt2s():
    config = GPTConfig(vocab_size=500, block_size=200, n_layer=8, n_head=4, n_embd=64)
    params = model.init(config, np.random.default_rng(0))
    for name, leaf in leaves(params):
        assert leaf.dtype == np.float32
        kind = name.split(".")[-1]
        if kind in ("gain", "bias"):
            assert np.all(leaf == (kind == "gain"))
            continue
        small = name.endswith(("out.weight", "down.weight"))
        std = 0.02 / 4 if small else 0.02  # sqrt(2 L) = 4
        # the standard error of a standard deviation is std / sqrt(2 N); of a mean, std / sqrt(N)
        assert abs(leaf.std() - std) < 5 * std / np.sqrt(2 * leaf.size), name
        assert abs(leaf.mean()) < 5 * std / np.sqrt(leaf.size), name
    again = model.init(config, np.random.default_rng(0))
    assert_close(again, params, 0, "the same seed")


def test_init_holds_what_the_configuration_asks_for():
    config = GPTConfig(vocab_size=7, block_size=5, n_layer=2, n_head=4, n_embd=8, n_inner=11)
    linear_shapes = {"attention.qkv": (8, 24), "attention.out": (8, 8)}
    linear_shapes |= {"mlp.up": (8, 11), "mlp.down": (11, 8)}
    block = {f"{name}.weight": shape for name, shape in linear_shapes.items()}
    block |= {f"{name}.bias": shape[1:] for name, shape in linear_shapes.items()}
    block |= {f"{norm}.{part}": (8,) for norm in ("norm1", "norm2") for part in ("gain", "bias")}
    expected = {"wte": (7, 8), "wpe": (5, 8), "norm.gain": (8,), "norm.bias": (8,)}
    assert shapes_of(config) == expected | {
        f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()
    }

    llama = dataclasses.replace(config, **LLAMA)  # one key/value head of 2 channels
    block = {"norm1.gain": (8,), "norm2.gain": (8,)}
    block |= {"attention.qkv.weight": (8, 12), "attention.out.weight": (8, 8)}
    block |= {"mlp.gate.weight": (8, 11), "mlp.up.weight": (8, 11), "mlp.down.weight": (11, 8)}
    assert shapes_of(llama) == {"wte": (7, 8), "norm.gain": (8,), "head": (7, 8)} | {
        f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()
    }


def shapes_of(config):
    return {name: leaf.shape for name, leaf in leaves(model.init(config, make_rng()))}

"""A whole training step on each backend: NumPy's loss and every gradient."""

import dataclasses

import numpy as np
import pytest

import minillm
from minillm.models import gpt, recurrent
from minillm.ops._state import Registry
from minillm.tree import leaves, map_leaves
from tests.models.gpt_cases import LLAMA
from tests.ops.harness import rng_of

BACKENDS = ("cupy", "triton")
GPT = gpt.GPTConfig(vocab_size=11, block_size=9, n_layer=2, n_head=2, n_embd=64, n_inner=40)
CONFIGS = {
    "gpt2": (gpt, GPT),
    "llama": (gpt, dataclasses.replace(GPT, **LLAMA)),
    "no bias, two heads a key": (gpt, dataclasses.replace(GPT, bias=False, n_head=2, n_kv_head=1)),
    "dropout": (gpt, dataclasses.replace(GPT, dropout=0.2)),
    "lstm": (recurrent, recurrent.RecurrentConfig(11, "lstm", n_embd=12, n_hidden=20, n_layer=2)),
}
# The ops that a backend has kernels for, and the model must reach through the dispatch.
HOT = {
    "cupy": {"linear", "flash_attention", "layer_norm", "softmax", "cross_entropy"},
    "triton": {
        "linear",
        "flash_attention",
        "multi_head_attention",
        "layer_norm",
        "rms_norm",
        "add_layer_norm",
        "add_rms_norm",
        "mlp_gelu",
        "swiglu",
        "transformer_block",
        "linear_cross_entropy",
        "cross_entropy",
        "softmax",
        "embedding",
        "rotary",
        "lstm",
    },
}


def draw(name, dtype):
    module, config = CONFIGS[name]
    rng = rng_of(name)
    params = map_leaves(
        lambda p: p + (0.1 * rng.standard_normal(p.shape)).astype(dtype),  # biases and gains too
        module.init(config, rng, dtype),
    )
    ids, targets = rng.integers(0, config.vocab_size, (2, 2, 9))
    targets[0, 3] = -100
    return module, config, params, ids, targets


def step(backend, module, config, params, ids, targets):
    with minillm.backend(backend):
        place = minillm.device()
        there, ids, targets = place.put(params), place.put(ids), place.put(targets)
        rng = np.random.default_rng(5)
        out, cache = module.loss(there, ids=ids, targets=targets, config=config, rng=rng)
        loss = out[0] if module.STATEFUL else out
        one = params_dtype(params).type(1)
        grads = module.loss.backward((one, None) if module.STATEFUL else one, cache)
        return float(loss), place.get(grads)


def params_dtype(params):
    return next(leaf.dtype for _, leaf in leaves(params))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("backend", [*BACKENDS])
def test_a_step_is_numpys(backend, name, place):
    check_step(backend, name, np.float64)


@pytest.mark.parametrize("backend", [*BACKENDS])
def test_a_step_in_single_precision_is_numpys(backend, place):
    check_step(backend, "gpt2", np.float32)


def check_step(backend, name, dtype):
    given = draw(name, dtype)
    loss, grads = step("numpy", *given)
    other, other_grads = step(backend, *given)
    # each gradient passes a few products of at most 64 terms in each of two blocks, and norms
    tol = 2000 * float(np.finfo(dtype).eps)
    assert other == pytest.approx(loss, rel=tol)
    for (leaf, expected), (other_leaf, actual) in zip(
        leaves(grads), leaves(other_grads), strict=True
    ):
        assert leaf == other_leaf
        assert actual.dtype == dtype
        scale = np.abs(expected).max()
        assert scale > 0, f"{leaf} has no gradient: the case tests nothing"
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * scale, err_msg=leaf)


@pytest.mark.parametrize("backend", [*BACKENDS])
def test_the_hot_ops_have_kernels(backend, place):
    with minillm.backend(backend):
        missing = {op for op in HOT[backend] if backend not in Registry.ops[op]}
    assert not missing

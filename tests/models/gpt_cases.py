"""What the GPT's tests share: every configuration, parameters off their start, an oracle."""

import dataclasses

import torch
from hypothesis import strategies as st

from minillm.models.gpt import GPTConfig, init
from minillm.tree import map_leaves
from tests.ops.harness import rng_of
from tests.ops.test_transformer_block import torch_block

# an eps that is no op's own, so that it shows where it is not handed on
TINY = GPTConfig(
    vocab_size=5, block_size=4, n_layer=2, n_head=2, n_embd=4, n_inner=3, dropout=0.3, eps=0.1
)
LLAMA = {
    "norm": "rms",
    "mlp": "swiglu",
    "position": "rotary",
    "tied": False,
    "bias": False,
    "n_kv_head": 1,
    "rotary_base": 50.0,
}
SEEDS = st.integers(0, 2**32 - 1)
CONFIGS = st.builds(
    lambda **choices: dataclasses.replace(TINY, **choices),
    norm=st.sampled_from(["layer", "rms"]),
    mlp=st.sampled_from(["gelu", "swiglu"]),
    position=st.sampled_from(["learned", "rotary"]),
    tied=st.booleans(),
    bias=st.booleans(),
    n_kv_head=st.sampled_from([None, 1, 2]),
    n_inner=st.sampled_from([None, 3]),
    rotary_base=st.sampled_from([50.0, 10000.0]),
    eps=st.sampled_from([1e-5, 0.1]),
)


def random_params(config, seed):
    """GPT's parameters, each moved off its initial value by far more than its size."""
    rng = rng_of("gpt", config, seed)
    params = init(config, rng, "float64")
    return map_leaves(lambda leaf: leaf + 0.4 * rng.standard_normal(leaf.shape), params)


def random_ids(config, seed, batch=2, time=3):
    """(B, T) ids, one of them twice."""
    ids = rng_of("ids", config, seed).integers(config.vocab_size, size=(batch, time))
    ids[-1, -1] = ids[0, 0]
    return ids


def torch_gpt(config, ids, drops=None):
    """The logits by torch's own parts, a function of params; drops: what the embedding's sum and
    then each block's (weights, branch, branch) are multiplied by."""
    first, *kept = drops or (1.0, *[(None, 1.0, 1.0)] * config.n_layer)

    def oracle(params):
        x = torch.nn.functional.embedding(torch.tensor(ids), params["wte"])
        if config.position == "learned":
            x = x + params["wpe"][: ids.shape[1]]
        x = x * first
        for block, (weights, *branches) in zip(params["blocks"], kept, strict=True):
            parts = {name: {"bias": None} | part for name, part in block["attention"].items()}
            x = torch_block(
                norm=config.norm,
                mlp=config.mlp,
                eps=config.eps,
                drops=branches,
                n_head=config.n_head,
                n_kv_head=config.kv_heads,
                causal=True,
                rotary_base=config.rotary_base if config.position == "rotary" else None,
                kept=weights,
            )(x, block | {"attention": parts})
        p, shape = params["norm"], x.shape[-1:]
        if config.norm == "layer":
            x = torch.nn.functional.layer_norm(x, shape, p["gain"], p["bias"], config.eps)
        else:
            x = torch.nn.functional.rms_norm(x, shape, p["gain"], config.eps)
        return x @ params["wte" if config.tied else "head"].T

    return oracle

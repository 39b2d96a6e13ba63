"""GPT: a stack of causal transformer blocks (Radford et al. 2019, GPT-2, section 2.3).

The defaults are GPT-2 as published: layer norm before each part, learned positions, GELU in its
tanh form, output weights tied to the embedding. LLaMA's choices (Touvron et al. 2023,
arXiv:2302.13971, section 2.2) are options: norm="rms", position="rotary", mlp="swiglu",
bias=False, tied=False; so are the grouped heads of its successors, n_kv_head (Ainslie et al. 2023,
arXiv:2305.13245).

Left out: the step of generation, see gpt_step.py; files, see gpt_huggingface.py.
"""

import dataclasses

import numpy as np

from minillm.models.gpt_step import reorder, start, step
from minillm.ops._op import op
from minillm.ops._params import pick, put_back
from minillm.ops.dropout import dropout
from minillm.ops.embedding import embedding
from minillm.ops.linear import linear
from minillm.ops.linear_cross_entropy import linear_cross_entropy
from minillm.ops.transformer_block import NORMS, transformer_block

__all__ = [
    "STATEFUL",
    "GPTConfig",
    "backward",
    "forward",
    "gpt",
    "gpt_hidden",
    "gpt_loss",
    "init",
    "loss",
    "loss_backward",
    "reorder",
    "start",
    "step",
]

STATEFUL = False  # the loss of a batch depends on nothing before it


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    vocab_size V, block_size T (the longest context), n_layer L, n_head H, n_embd C,
    n_kv_head G (None: H), n_inner F (None: 4 C, for SwiGLU 8/3 C), norm "layer" or "rms",
    mlp "gelu" or "swiglu", position "learned" or "rotary", tied: one array embeds and predicts,
    bias: linear layers have one (SwiGLU never has), dropout: a probability, eps: for the norms.
    """

    vocab_size: int
    block_size: int = 64
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    n_kv_head: int | None = None
    n_inner: int | None = None
    norm: str = "layer"
    mlp: str = "gelu"
    position: str = "learned"
    tied: bool = True
    bias: bool = True
    dropout: float = 0.0
    eps: float = 1e-5
    rotary_base: float = 10000.0

    def __post_init__(self):
        sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_kv_head", "n_inner")
        for name in sizes:
            value = getattr(self, name)
            if value is None and name in ("n_kv_head", "n_inner"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name, allowed in (
            ("norm", ("layer", "rms")),
            ("mlp", ("gelu", "swiglu")),
            ("position", ("learned", "rotary")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        if self.n_head % self.kv_heads:
            raise ValueError(
                f"n_head {self.n_head} must be a multiple of n_kv_head {self.kv_heads}"
            )
        if self.position == "rotary" and self.head_size % 2:
            raise ValueError(f"rotary positions need an even head size, got {self.head_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        for name in ("eps", "rotary_base"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")

    @property
    def kv_heads(self):
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def head_size(self):
        return self.n_embd // self.n_head

    @property
    def inner(self):
        """F; SwiGLU has three matrices for GELU's two, so 8/3 C costs what 4 C does there."""
        if self.n_inner is not None:
            return self.n_inner
        return 4 * self.n_embd if self.mlp == "gelu" else max(1, 8 * self.n_embd // 3)

    @property
    def block_options(self):
        """The keyword arguments of every transformer_block."""
        return {
            "n_head": self.n_head,
            "n_kv_head": self.kv_heads,
            "norm": self.norm,
            "mlp": self.mlp,
            "eps": self.eps,
            "rotary_base": self.rotary_base if self.position == "rotary" else None,
            "dropout": self.dropout,
            "attention_dropout": self.dropout,
        }


def init(config, rng, dtype=np.float32):
    """GPT-2's start: weights from N(0, 0.02), those that write to the residual sum smaller by
    sqrt(2 L), so that the sum does not grow with depth; biases 0, gains 1.

    Returns
    -------
    params : dict
        wte (V, C), wpe (T, C) unless rotary, blocks: L times transformer_block's params,
        norm {gain (C,), bias (C,)}, head (V, C) unless tied
    """
    C, D, F = config.n_embd, config.head_size, config.inner
    small = 0.02 / np.sqrt(2 * config.n_layer)

    def normal(*shape, std=0.02):
        return (std * rng.standard_normal(shape)).astype(dtype)

    def layer(n_in, n_out, std=0.02, bias=config.bias):
        weight = normal(n_in, n_out, std=std)
        return {"weight": weight, "bias": np.zeros(n_out, dtype)} if bias else {"weight": weight}

    def norm():
        gain = np.ones(C, dtype)
        return (
            {"gain": gain, "bias": np.zeros(C, dtype)} if config.norm == "layer" else {"gain": gain}
        )

    def mlp():
        if config.mlp == "gelu":
            return {"up": layer(C, F), "down": layer(F, C, small)}
        gate, up = layer(C, F, bias=False), layer(C, F, bias=False)
        return {"gate": gate, "up": up, "down": layer(F, C, small, bias=False)}

    def block():
        n_qkv = (config.n_head + 2 * config.kv_heads) * D
        attention = {"qkv": layer(C, n_qkv), "out": layer(C, C, small)}
        return {"norm1": norm(), "attention": attention, "norm2": norm(), "mlp": mlp()}

    params = {"wte": normal(config.vocab_size, C)}
    if config.position == "learned":
        params["wpe"] = normal(config.block_size, C)
    params["blocks"] = [block() for _ in range(config.n_layer)]
    params["norm"] = norm()
    if not config.tied:
        params["head"] = normal(config.vocab_size, C)
    return params


@op
def gpt_hidden(params, *, ids, config, rng=None):
    """Embed the ids and pass them through all blocks and the last norm.

    Equation: hidden = norm(block_L(... block_1(wte[ids] + wpe[0..T-1])))

    Parameters
    ----------
    params : see `init`
    ids : (B, T) integers in [0, V), T at most block_size
    config : GPTConfig
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    hidden : (B, T, C)

    Raises
    ------
    ValueError
        for ids that are no (B, T) or longer than the block.
    """
    if ids.ndim != 2 or ids.shape[1] > config.block_size:
        raise ValueError(f"ids must be (B, T) with T <= {config.block_size}, got shape {ids.shape}")
    x, cache_wte = embedding(params["wte"], ids=ids)  # (B, T, C)
    cache_wpe = None
    if "wpe" in params:
        position, cache_wpe = embedding(
            params["wpe"], ids=np.arange(ids.shape[1], like=ids)
        )  # (T, C)
        x = x + position
    x, cache_drop = dropout(x, p=config.dropout, rng=rng)
    cache_blocks = []
    for block in params["blocks"]:
        x, cache = transformer_block(x, block, rng=rng, **config.block_options)
        cache_blocks.append(cache)
    norm_op, _, names = NORMS[config.norm]
    norm = pick("params norm", params["norm"], names)
    hidden, cache_norm = norm_op(x, *norm, eps=config.eps)
    caches = cache_wte, cache_wpe, cache_drop, cache_blocks, cache_norm
    return hidden, (params, config, caches)


@gpt_hidden.defbackward
def gpt_hidden_backward(dhidden, cache):
    params, config, caches = cache
    cache_wte, cache_wpe, cache_drop, cache_blocks, cache_norm = caches
    norm_op, _, names = NORMS[config.norm]
    # forward: hidden = norm(x)
    dx, *dnorm = norm_op.backward(dhidden, cache_norm)
    # forward: x = block(x), one after the other
    dblocks = []
    for cache_block in reversed(cache_blocks):
        dx, dblock = transformer_block.backward(dx, cache_block)
        dblocks.append(dblock)
    # forward: x = dropout(wte[ids] + wpe[positions]); a position serves every row of the batch
    dx = dropout.backward(dx, cache_drop)
    grads = {"wte": embedding.backward(dx, cache_wte)}
    if cache_wpe is not None:
        grads["wpe"] = embedding.backward(dx.sum(0), cache_wpe)
    grads["blocks"] = dblocks[::-1]
    grads["norm"] = put_back(params["norm"], names, dnorm)
    if "head" in params:
        grads["head"] = np.zeros_like(params["head"])
    return grads


@op
def gpt(params, *, ids, config, rng=None):
    """The logits of the token after each position.

    Equation: logits = hidden @ head.T

    Parameters
    ----------
    params, ids, config, rng : see gpt_hidden

    Returns
    -------
    logits : (B, T, V)
    """
    hidden, cache_hidden = gpt_hidden(params, ids=ids, config=config, rng=rng)
    logits, cache_head = linear(hidden, params[head_name(params)].T)  # (B, T, V)
    return logits, (params, cache_hidden, cache_head)


@gpt.defbackward
def gpt_backward(dlogits, cache):
    params, cache_hidden, cache_head = cache
    # forward: logits = hidden @ head.T
    dhidden, dhead_t, _ = linear.backward(dlogits, cache_head)
    grads = gpt_hidden.backward(dhidden, cache_hidden)
    # a tied array has embedded and predicted: its two gradients add up
    grads[head_name(params)] += dhead_t.T
    return grads


@op
def gpt_loss(params, *, ids, targets, config, rng=None):
    """The mean negative log-likelihood of the targets, in nats, without keeping the logits.

    Equation: loss = -mean(log softmax(hidden @ head.T)[targets])

    Parameters
    ----------
    params, ids, config, rng : see gpt_hidden
    targets : (B, T) integers in [0, V), or -100: does not count

    Returns
    -------
    loss : scalar, nats a token
    """
    hidden, cache_hidden = gpt_hidden(params, ids=ids, config=config, rng=rng)
    loss, cache_head = linear_cross_entropy(hidden, params[head_name(params)], targets=targets)
    return loss, (params, cache_hidden, cache_head)


@gpt_loss.defbackward
def gpt_loss_backward(dloss, cache):
    params, cache_hidden, cache_head = cache
    # forward: loss = cross_entropy(hidden @ head.T, targets)
    dhidden, dhead, _ = linear_cross_entropy.backward(dloss, cache_head)
    grads = gpt_hidden.backward(dhidden, cache_hidden)
    grads[head_name(params)] += dhead
    return grads


def head_name(params):
    return "head" if "head" in params else "wte"


forward, backward = gpt, gpt_backward
loss, loss_backward = gpt_loss, gpt_loss_backward

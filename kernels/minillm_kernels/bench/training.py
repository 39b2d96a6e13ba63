"""One training step of GPT-2 124M, ours end to end beside PyTorch's."""

import contextlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import minillm
from minillm.models import gpt
from minillm.optim import AdamW
from minillm.tree import leaves
from minillm_kernels.bench.row import Case, Row, carried
from minillm_kernels.bench.vendor import products_by
from minillm_kernels.precision import precision

__all__ = ["ROWS", "gpt2_shapes"]

BATCH, LENGTH = 16, 1024
GPT2 = {"vocab_size": 50304, "block_size": LENGTH, "n_layer": 12, "n_head": 12, "n_embd": 768}
SMALL = {"vocab_size": 70, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 64}
RATE, BETAS, DECAY = 6e-4, (0.9, 0.95), 0.1


def gpt2_shapes(place):
    """The shapes of all of its parameters."""
    params = gpt.init(_config(place), np.random.default_rng(0))
    return [leaf.shape for _, leaf in leaves(params)]


def _config(place):
    return gpt.GPTConfig(**place.size(GPT2, SMALL))


def flop_per_token(config):
    """6 a weight that multiplies, and the attention's products, a full square of keys
    (PaLM, Chowdhery et al. 2022, arXiv:2204.02311, appendix B)."""
    C, L = config.n_embd, config.n_layer
    weights = L * 12 * C * C + config.vocab_size * C
    return 6 * weights + 12 * L * C * config.block_size


def cases(place):
    config = _config(place)
    batch = place.size(BATCH, 2)
    ids = place.integers(config.vocab_size, batch, config.block_size)
    targets = place.integers(config.vocab_size, batch, config.block_size)
    yield Case(
        f"batch {batch} x {config.block_size}",
        [()],
        {
            "triton": OurStep(place, config, ids, targets, products="triton"),
            "triton, products by cuBLAS": OurStep(place, config, ids, targets, products="cublas"),
        },
        {"torch.compile": TheirStep(place, config, ids, targets)},
        ids.numel(),
        tolerance=None,
        flop=flop_per_token(config) * ids.numel(),
    )


class OurStep:
    """Forward, backward and update with minillm's model on the triton backend, bf16 products.

    Called as a function it runs one step; all that it reads and writes stays where it is, so that a
    CUDA graph can hold it.
    """

    def __init__(self, place, config, ids, targets, products):
        from minillm_kernels.triton.adamw import FusedAdamW

        self.config, self.products = config, products
        with minillm.backend("triton"):
            device = minillm.device()
        self.ids, self.targets = (carried(t) for t in (ids, targets))
        self.params = device.put(gpt.init(config, np.random.default_rng(0)))
        self.rule = FusedAdamW(AdamW(RATE, betas=BETAS, weight_decay=DECAY))
        self.state = self.rule.init(self.params, on_device=place.real)
        self.one = carried(torch.ones((), device=ids.device))
        self.loss = None

    def __call__(self):
        with minillm.backend("triton"), precision("bf16"), products_by(self.products):
            self.loss, cache = gpt.loss(
                self.params, ids=self.ids, targets=self.targets, config=self.config
            )
            grads = gpt.loss.backward(self.one, cache)
            self.rule.update(self.params, grads, self.state, RATE)
        return ()


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head = config.n_head
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x):
        B, T, C = x.shape
        heads = (B, T, self.n_head, C // self.n_head)
        q, k, v = (t.view(heads).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, 2))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class PeerGPT(nn.Module):
    """GPT-2 as PyTorch's users write it."""

    def __init__(self, config):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class TheirStep:
    """torch.compile, SDPA, bf16 autocast, fused AdamW that a CUDA graph can hold; made at the first
    call."""

    def __init__(self, *given):
        self.given, self.step = given, None

    def __call__(self):
        self.step = self.step or _their_step(*self.given)
        return self.step()


def _their_step(place, config, ids, targets):
    model = PeerGPT(config).to(ids.device)
    run = place.compiled(model)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    more = {"fused": True, "capturable": True} if place.real else {}
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, weight_decay=DECAY, **more)

    def step():
        mixed = contextlib.nullcontext()
        if place.real:  # the cache of autocast's weights would outlive a captured step
            mixed = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
        optimizer.zero_grad(set_to_none=True)
        with mixed:
            loss = run(ids, targets)
        loss.backward()
        optimizer.step()
        return ()

    return step


ROWS = [
    Row(
        "training",
        "GPT-2 124M training step, batch 16 x 1024, bf16, fp32 master weights",
        "tokens/s",
        cases,
        {"triton": 0.9},
        {"triton": 1.0, "triton, products by cuBLAS": 1.0, "peak": 0.4},
    )
]

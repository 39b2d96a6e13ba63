"""Attention rows: ours against each of torch's SDPA backends by name.

FLOP counted as usual for causal attention, half of the full square: forward 2 products, backward 5
(Dao 2023, arXiv:2307.08691, section 4.1).
"""

import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from minillm_kernels.bench.row import Case, Row

__all__ = ["ROWS"]

TOKENS, WIDTH = 16384, 2048
LENGTHS = (1024, 2048, 4096, 8192, 16384)
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def _backends(place):
    return BACKENDS if place.real else {"math": SDPBackend.MATH}


def _tensors(place, length, head):
    tokens, width = place.size((TOKENS, WIDTH), (2 * length, 2 * head))
    shape = tokens // length, width // head, length, head
    return [place.tensor(*shape) for _ in range(4)], 4 * tokens * length * width // 2


def forward_cases(place, head):
    from minillm_kernels.triton.flash_attention import flash_attention

    for length in place.size(LENGTHS, (40,)):
        (q, k, v, _), amount = _tensors(place, length, head)

        def peer(backend, q, k, v):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, k, v, is_causal=True)

        yield Case(
            f"d = {head}, length {length}",
            [(q, k, v)],
            {"triton": lambda q, k, v: flash_attention(q, k, v, causal=True)[0]},
            {name: functools.partial(peer, b) for name, b in _backends(place).items()},
            amount,
        )


def backward_cases(place, head):
    from minillm_kernels.triton.flash_attention import flash_attention, flash_attention_backward

    for length in place.size(LENGTHS, (40,)):
        (q, k, v, dout), amount = _tensors(place, length, head)
        _, cache = flash_attention(q, k, v, causal=True)
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]

        def ours(cache=cache, dout=dout):
            return flash_attention_backward(dout, cache)[:3]

        def peer(backend, leaves=leaves, dout=dout, done={}):  # noqa: B006 (each case has its own)
            if backend not in done:
                with sdpa_kernel(backend):
                    done[backend] = scaled_dot_product_attention(*leaves, is_causal=True)
            return torch.autograd.grad(done[backend], leaves, dout, retain_graph=True)

        done = {}
        yield Case(
            f"d = {head}, length {length}",
            [()],
            {"triton": ours},
            {name: functools.partial(peer, b, done=done) for name, b in _backends(place).items()},
            5 * amount // 2,
        )


def _rows():
    for head, must in ((64, 0.90), (128, 0.75)):
        yield Row(
            f"attention_forward_{head}",
            f"attention forward, causal, bf16, d = {head}, lengths 1k to 16k",
            "TFLOP/s",
            functools.partial(forward_cases, head=head),
            {"peer": must},
            {"peer": 1.0},
        )
    for head in (64, 128):
        yield Row(
            f"attention_backward_{head}",
            f"attention backward, causal, bf16, d = {head}, lengths 1k to 16k",
            "TFLOP/s",
            functools.partial(backward_cases, head=head),
            {"peer": 0.6, "peer flash": 1.0},
            {"peer": 0.9},
        )


ROWS = list(_rows())

"""The output head with its loss, forward and backward together, which never holds all logits.

Products counted: logits, dx and dweight, 6 N C V in all; what is computed twice counts once.
"""

import torch
from torch.nn import functional

from minillm_kernels.bench.row import Case, Row

__all__ = ["ROWS"]


def cases(place):
    from minillm_kernels.triton.linear_cross_entropy import (
        linear_cross_entropy,
        linear_cross_entropy_backward,
    )

    rows, channels, vocab = place.size((16384, 768, 50304), (12, 20, 70))
    x = place.tensor(rows, channels)
    weight = place.tensor(vocab, channels, scale=0.02)
    targets = place.integers(vocab, rows)
    one = torch.ones((), device=place.device, dtype=torch.float32)

    def ours(x, weight, targets):
        loss, cache = linear_cross_entropy(x, weight, targets=targets)
        dx, dweight, _ = linear_cross_entropy_backward(one.to(loss.dtype), cache)
        return loss.float(), dx, dweight

    def loss_of(x, weight, targets):
        return functional.cross_entropy((x @ weight.T).float(), targets)

    def peer(function):
        def run(x, weight, targets):
            leaves = x.detach().requires_grad_(), weight.detach().requires_grad_()
            loss = function(*leaves, targets)
            return loss.detach(), *torch.autograd.grad(loss, leaves)

        return run

    yield Case(
        f"{rows} x {channels} x {vocab}",
        [(x, weight, targets)],
        {"triton": ours},
        {"torch.compile": peer(place.compiled(loss_of)), "torch": peer(loss_of)},
        6 * rows * channels * vocab,
    )


ROWS = [
    Row(
        "linear_cross_entropy",
        "linear + cross-entropy, forward and backward, bf16",
        "TFLOP/s",
        cases,
        {"peer torch.compile": 1.0},
        {"peer torch.compile": 1.3},
    )
]

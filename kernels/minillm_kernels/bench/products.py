"""Matrix products beside cuBLAS and cuBLASLt, by torch's names for them."""

import torch

from minillm_kernels.bench.row import Case, Row

__all__ = ["ROWS"]

TOKENS, C, VOCAB = 16384, 768, 50304
# of a GPT-2 124M: the layer, its inputs, its outputs
LAYERS = [
    ("qkv", C, 3 * C),
    ("attention's out", C, C),
    ("mlp's up", C, 4 * C),
    ("mlp's down", 4 * C, C),
    ("head", C, VOCAB),
]


def _by(library):
    def product(a, b):
        if not a.is_cuda:
            return a @ b
        before = torch.backends.cuda.preferred_blas_library()
        torch.backends.cuda.preferred_blas_library(library)
        try:
            return a @ b
        finally:
            torch.backends.cuda.preferred_blas_library(before)

    return product


PEERS = {"cuBLAS": _by("cublas"), "cuBLASLt": _by("cublaslt")}


def _case(place, name, a, b):
    from minillm_kernels.triton.matmul import matmul

    amount = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    return Case(name, [(a, b)], {"triton": matmul}, PEERS, amount)


def square_cases(place):
    for size in place.size((4096, 8192), (40,)):
        yield _case(place, f"{size}^3", *(place.tensor(size, size) for _ in range(2)))


def gpt2_cases(place):
    rows = place.size(TOKENS, 24)
    for name, inputs, outputs in LAYERS:
        n, m = (size if place.real else 16 * (size // C) or 16 for size in (inputs, outputs))
        m = min(m, 64) if not place.real else m
        x, dy = place.tensor(rows, n), place.tensor(rows, m)
        weight = place.tensor(n, m) if name != "head" else place.tensor(m, n).T
        yield _case(place, f"{name}, y = x @ w", x, weight)
        yield _case(place, f"{name}, dx = dy @ w^T", dy, weight.T)
        if name == "head":
            yield _case(place, f"{name}, dw = dy^T @ x", dy.T, x)
        else:
            yield _case(place, f"{name}, dw = x^T @ dy", x.T, dy)


ROWS = [
    Row("matmul", "matmul, bf16", "TFLOP/s", square_cases, {"peer": 0.90}, {"peer": 1.0}),
    Row(
        "matmul_gpt2",
        "GPT-2 124M's products, M = 16384, bf16",
        "TFLOP/s",
        gpt2_cases,
        {"peer": 0.85},
        {"peer": 0.95},
    ),
]

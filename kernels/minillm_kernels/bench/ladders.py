"""The CUDA C ladders, a contestant a rung, beside the vendor's library.

The contestants take CuPy arrays on a GPU and NumPy arrays in a rehearsal, where the emulator runs
those rungs that it can.
"""

import functools

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from minillm_kernels.bench.row import Case, Row, carried
from minillm_kernels.cuda import attention, cross_entropy, layer_norm, matmul, softmax

__all__ = ["ROWS"]

PLAIN = matmul.RUNGS[:7]
TENSOR = matmul.RUNGS[7:]
ATTENTION_PLAIN = [rung for rung in attention.RUNGS if "float32" in rung.dtypes]
ATTENTION_TENSOR = [rung for rung in attention.RUNGS if "float16" in rung.dtypes]


def lent(result):
    """A launcher's arrays as tensors of the same memory; None, as for no bias, left out."""
    if isinstance(result, tuple):
        return tuple(lent(array) for array in result if array is not None)
    return torch.from_dlpack(result) if hasattr(result, "__dlpack__") else torch.as_tensor(result)


def can_run(place, rungs):
    """In a rehearsal only what the emulator can; on a GPU all, and who cannot says so."""
    return [rung for rung in rungs if place.real or rung.emulated]


def matmul_cases(place, rungs, dtype, peer):
    real, small = {"fp32": (4096, 40), "fp16": (8192, 48)}[dtype]
    size = place.size(real, small)
    kind = dtype if place.real or dtype == "fp32" else "rehearsed fp16"
    a, b = (_tensor(place, kind, size, size) for _ in range(2))
    ours = {
        rung.name: functools.partial(_product, rung, carried(a), carried(b))
        for rung in can_run(place, rungs)
    }
    torch.backends.cuda.matmul.allow_tf32 = False
    yield Case(f"{size}^3", [()], ours, {peer: lambda: a @ b}, 2 * size**3)


def _tensor(place, kind, *shape):
    if kind == "rehearsed fp16":
        return place.tensor(*shape).half()
    return place.tensor(*shape, dtype=kind)


def _product(rung, a, b):
    return lent(matmul.matmul(a, b, rung=rung))


def attention_cases(place, rungs, dtype):
    """Forward and backward by each rung, beside SDPA's best for that dtype."""
    heads, length, size = place.size((16, 4096, 128 if dtype == "fp16" else 64), (2, 20, 32))
    kind = dtype if place.real or dtype == "fp32" else "rehearsed fp16"
    q, k, v, dout = (_tensor(place, kind, 1, heads, length, size) for _ in range(4))
    arrays = [carried(t) for t in (q, k, v)]
    half_square = 4 * heads * length * length * size // 2
    backend = SDPBackend.MATH
    if place.real:
        flash, plain = SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION
        backend = flash if dtype == "fp16" else plain

    def attend(q, k, v):
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    out = attend(*leaves)
    name = f"torch {backend.name.lower()}"
    rungs = can_run(place, rungs)
    yield Case(
        f"causal, {heads} x {length} x {size}, forward",
        [()],
        {r.name: functools.partial(_attend, r, arrays) for r in rungs},
        {name: lambda: attend(q, k, v)},
        half_square,
    )
    saved = {r.name: attention.forward(r, *arrays, causal=True)[1] for r in rungs}
    yield Case(
        f"causal, {heads} x {length} x {size}, backward",
        [()],
        {n: functools.partial(_attend_backward, carried(dout), s) for n, s in saved.items()},
        {name: lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True)},
        5 * half_square // 2,
    )


def _attend(rung, arrays):
    return lent(attention.forward(rung, *arrays, causal=True)[0])


def _attend_backward(dout, saved):
    return lent(attention.backward(dout, saved))


def softmax_cases(place):
    x, dy = _rows(place, 2)
    y = torch.softmax(x, -1)
    yield Case(
        _size(x, "forward"),
        [()],
        {r.name: lambda r=r: lent(softmax.forward(r, carried(x))) for r in softmax.RUNGS},
        {"torch": lambda: torch.softmax(x, -1)},
        8 * x.numel(),
    )
    yield Case(
        _size(x, "backward"),
        [()],
        {
            r.name: lambda r=r: lent(softmax.backward(r, carried(y), carried(dy)))
            for r in softmax.RUNGS
        },
        {"torch": lambda: torch.ops.aten._softmax_backward_data(dy, y, -1, torch.float32)},
        12 * x.numel(),
    )


def layer_norm_cases(place):
    x, dy = _rows(place, 2)
    gain, bias = (1 + place.tensor(x.shape[1], dtype="fp32", scale=0.1) for _ in range(2))
    given = [carried(t) for t in (x, gain, bias)]
    yield Case(
        _size(x, "forward"),
        [()],
        {r.name: lambda r=r: lent(layer_norm.forward(r, *given)[0]) for r in layer_norm.RUNGS},
        {"torch": lambda: functional.layer_norm(x, x.shape[1:], gain, bias)},
        8 * x.numel(),
    )
    leaves = [t.clone().requires_grad_() for t in (x, gain, bias)]
    out = functional.layer_norm(leaves[0], x.shape[1:], *leaves[1:])
    saved = {r: layer_norm.forward(r, *given)[1] for r in layer_norm.RUNGS}
    yield Case(
        _size(x, "backward"),
        [()],
        {
            r.name: lambda r=r: lent(layer_norm.backward(r, carried(dy), saved[r]))
            for r in layer_norm.RUNGS
        },
        {"torch": lambda: torch.autograd.grad(out, leaves, dy, retain_graph=True)},
        12 * x.numel(),
    )


def cross_entropy_cases(place):
    x = place.tensor(*place.size((4096, 50304), (6, 64)), dtype="fp32")
    targets = place.integers(x.shape[1], x.shape[0])
    given = carried(x), carried(targets)
    yield Case(
        _size(x, "forward"),
        [()],
        {
            r.name: lambda r=r: lent(cross_entropy.forward(r, *given)[0]).reshape(())
            for r in cross_entropy.RUNGS
        },
        {"torch": lambda: functional.cross_entropy(x, targets)},
        4 * x.numel(),
    )


def _rows(place, count):
    shape = place.size((16384, 4096), (6, 64))
    return [place.tensor(*shape, dtype="fp32") for _ in range(count)]


def _size(x, direction):
    return f"{x.shape[0]} x {x.shape[1]}, {direction}"


def _names(rungs):
    return tuple(rung.name for rung in rungs)


ROWS = [
    Row(
        "ladder_matmul",
        "CUDA C matmul, fp32, 4096^3",
        "TFLOP/s",
        functools.partial(matmul_cases, rungs=PLAIN, dtype="fp32", peer="cuBLAS"),
        {
            "02_coalesced": 0.12,
            "03_shared_tile": 0.18,
            "05_register_tile": 0.50,
            "06_vectorised": 0.62,
            "07_warp_tile": 0.70,
        },
        {"07_warp_tile": 0.85},
        "matmul",
        _names(PLAIN),
    ),
    Row(
        "ladder_matmul_tensor_cores",
        "CUDA C matmul, tensor cores, fp16, 8192^3",
        "TFLOP/s",
        functools.partial(matmul_cases, rungs=TENSOR, dtype="fp16", peer="cuBLAS"),
        {"08_wmma": 0.25, "09_mma_sync": 0.60, "10_wgmma_tma": 0.75},
        {"10_wgmma_tma": 0.95},
        "matmul",
        _names(TENSOR),
    ),
    Row(
        "ladder_attention",
        "CUDA C attention, fp32, causal",
        "TFLOP/s",
        functools.partial(attention_cases, rungs=ATTENTION_PLAIN, dtype="fp32"),
        ladder="attention",
        rungs=_names(ATTENTION_PLAIN),
    ),
    Row(
        "ladder_attention_tensor_cores",
        "CUDA C attention, tensor cores, fp16, causal",
        "TFLOP/s",
        functools.partial(attention_cases, rungs=ATTENTION_TENSOR, dtype="fp16"),
        ladder="attention",
        rungs=_names(ATTENTION_TENSOR),
    ),
    *(
        Row(
            f"ladder_{package.__name__.rpartition('.')[2]}",
            f"CUDA C {title}, fp32",
            "GB/s",
            cases,
            ladder=package.__name__.rpartition(".")[2],
            rungs=_names(package.RUNGS),
            share_of="copy",
        )
        for package, title, cases in (
            (softmax, "softmax", softmax_cases),
            (layer_norm, "layer norm", layer_norm_cases),
            (cross_entropy, "cross-entropy", cross_entropy_cases),
        )
    ),
]

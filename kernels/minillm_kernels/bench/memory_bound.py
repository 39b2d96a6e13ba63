"""Rows whose time is that of moving bytes: norms, cross-entropy, GELU, AdamW.

Bytes counted are the least possible: each input read once, each output written once.
"""

import torch
from torch.nn import functional

from minillm_kernels.bench.row import Case, Row

__all__ = ["ROWS"]

EPS = 1e-5
MUST = {"copy": 0.85, "peer": 1.0}
AIM = {"copy": 0.95}


def layer_norm_cases(place):
    from minillm_kernels.triton.layer_norm import layer_norm, layer_norm_backward

    def peer(x, gain, bias, dy):
        return functional.layer_norm(x, x.shape[-1:], gain, bias, EPS)

    return _norm_cases(place, peer, layer_norm, layer_norm_backward, n_weights=2)


def rms_norm_cases(place):
    from minillm_kernels.triton.rms_norm import rms_norm, rms_norm_backward

    def peer(x, gain, dy):
        return functional.rms_norm(x, x.shape[-1:], gain, EPS)

    return _norm_cases(place, peer, rms_norm, rms_norm_backward, n_weights=1)


def _norm_cases(place, peer, forward, backward, n_weights):
    rows = place.size(16384, 6)
    for channels in place.size((768, 4096), (20,)):
        nbytes = rows * channels * 2
        inputs = []
        for _ in range(place.copies(2 * nbytes)):
            x, dy = (place.tensor(rows, channels) for _ in range(2))
            weights = [1 + place.tensor(channels, scale=0.1) for _ in range(n_weights)]
            inputs.append((x, *weights, dy))

        def run(*given):
            return forward(*given[:-1], eps=EPS)[0]

        yield Case(
            f"{rows} x {channels} forward",
            inputs,
            {"triton": run},
            {"torch.compile": place.compiled(peer), "torch": peer},
            2 * nbytes,
        )
        yield _backward_case(
            place,
            f"{rows} x {channels} backward",
            inputs,
            lambda *given: forward(*given[:-1], eps=EPS),
            backward,
            peer,
            3 * nbytes,
        )


def gelu_cases(place):
    from minillm_kernels.triton.gelu import gelu, gelu_backward

    rows, channels = place.size((16384, 3072), (6, 20))
    nbytes = rows * channels * 2
    inputs = [
        tuple(place.tensor(rows, channels) for _ in range(2))
        for _ in range(place.copies(2 * nbytes))
    ]

    def peer(x, dy):
        return functional.gelu(x, approximate="tanh")

    yield Case(
        f"{rows} x {channels} forward",
        inputs,
        {"triton": lambda x, dy: gelu(x, approximate="tanh")[0]},
        {"torch.compile": place.compiled(peer), "torch": peer},
        2 * nbytes,
    )
    yield _backward_case(
        place,
        f"{rows} x {channels} backward",
        inputs,
        lambda x, dy: gelu(x, approximate="tanh"),
        gelu_backward,
        peer,
        3 * nbytes,
    )


def cross_entropy_cases(place):
    from minillm_kernels.triton.cross_entropy import cross_entropy, cross_entropy_backward

    rows, vocab = place.size((16384, 50304), (6, 70))
    nbytes = rows * vocab * 2
    one = torch.ones((), device=place.device)
    inputs = [(place.tensor(rows, vocab, scale=3.0), place.integers(vocab, rows), one)]

    def peer(logits, targets, dloss):
        return functional.cross_entropy(logits.float(), targets)

    yield Case(
        f"{rows} x {vocab} forward",
        inputs,
        {"triton": lambda x, targets, d: cross_entropy(x, targets=targets)[0]},
        {"torch.compile": place.compiled(peer)},
        nbytes,
    )
    yield _backward_case(
        place,
        f"{rows} x {vocab} backward",
        inputs,
        lambda x, targets, d: cross_entropy(x, targets=targets),
        cross_entropy_backward,
        peer,
        2 * nbytes,
    )


def adamw_cases(place):
    from minillm.optim import AdamW
    from minillm_kernels.bench.training import gpt2_shapes
    from minillm_kernels.triton.adamw import FusedAdamW

    shapes = gpt2_shapes(place)
    settings = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    rule = AdamW(1e-3, **settings)
    numbers = [place.tensor(*shape, dtype="fp32", scale=0.02) for shape in shapes]
    grads = {str(i): place.tensor(*shape, dtype="fp32") for i, shape in enumerate(shapes)}
    params = {str(i): p.clone() for i, p in enumerate(numbers)}
    fused = FusedAdamW(rule)
    state = fused.init(params)

    def ours():
        fused.update(params, grads, state, 1e-3)
        return ()

    leaves = [p.clone().requires_grad_() for p in numbers]
    for leaf, grad in zip(leaves, grads.values(), strict=True):
        leaf.grad = grad
    matrices = [leaf for leaf in leaves if leaf.ndim >= 2]
    others = [leaf for leaf in leaves if leaf.ndim < 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    more = {"fused": True, "capturable": True} if place.real else {}
    peer = torch.optim.AdamW(groups, lr=1e-3, **settings, **more)

    def theirs():
        peer.step()
        return ()

    count = sum(p.numel() for p in numbers)
    yield Case(
        f"{count:,} parameters in {len(shapes)} tensors, fp32",
        [()],
        {"triton": ours},
        {"torch fused": theirs},
        28 * count,  # reads p, g, m, v and writes p, m, v
        tolerance=None,
    )


def _backward_case(place, name, inputs, forward, backward, peer, amount):
    """Both sides' backward alone; each has run its own forward before. dout is the last input."""
    sets = [(forward(*given)[1], given[-1], i) for i, given in enumerate(inputs)]
    graphs = {}  # the peer's forward of each set of inputs, run when it is first asked for

    def run(cache, dy, i):
        grads = backward(dy, cache)
        grads = grads if isinstance(grads, tuple) else (grads,)
        return tuple(g for g in grads if g is not None)

    def run_peer(cache, dy, i):
        with place.repeatable_backward():
            if i not in graphs:
                graphs[i] = _with_graph(place.compiled(peer), inputs[i])
            out, wanted = graphs[i]
            return torch.autograd.grad(out, wanted, dy.to(out.dtype), retain_graph=True)

    return Case(name, sets, {"triton": run}, {"torch.compile": run_peer}, amount)


def _with_graph(function, given):
    """The function's result, to be differentiated, and the inputs that it may be differentiated by;
    the last input is none of them."""
    wanted = [t.detach().requires_grad_() for t in given[:-1] if t.is_floating_point()]
    fixed = iter(wanted)
    args = [next(fixed) if t.is_floating_point() else t for t in given[:-1]]
    return function(*args, given[-1]), wanted


ROWS = [
    Row("layer_norm", "layer norm, bf16", "GB/s", layer_norm_cases, MUST, AIM),
    Row("rms_norm", "RMS norm, bf16", "GB/s", rms_norm_cases, MUST, AIM),
    Row("cross_entropy", "cross-entropy, bf16", "GB/s", cross_entropy_cases, MUST, AIM),
    Row("gelu", "GELU, bf16", "GB/s", gelu_cases, MUST, AIM),
    Row("adamw", "AdamW, GPT-2 124M", "GB/s", adamw_cases, MUST, AIM),
]

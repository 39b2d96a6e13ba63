"""Attention block by block (Dao 2023, arXiv:2307.08691) on tensor cores.

The kernels are in _attention_forward.py and _attention_backward.py, what launches them in
_attention_launch.py. A head size up to 128 is served, values of another size than keys too. A bias
or a mask is read by a slower variant, tile by tile; its gradient needs (B, H, T, S) numbers.

Counted, for 128 queries and 128 keys of an H100's multiprocessor at D = 128: the two products are
8.4 million operations, 2048 cycles at 4096 a cycle; 16384 exponentials at 16 a cycle are 1024 more,
and the maxima, sums and conversions about half of that again. One after the other that is 57 % of
the tensor cores' rate, with the second product beside the exponentials 80 %; at D = 64 41 and 51 %.
Backward is 7 products where the exponentials are made twice, or 5 with `deterministic(False)`.

Share of the best of torch's backends on an H100: not yet measured

Left out: dropout, see scaled_dot_product_attention.py.
"""

import contextlib
import math
from contextvars import ContextVar

import torch

from minillm.ops._op import register
from minillm_kernels.arrays import allocating, on_tensors
from minillm_kernels.triton._attention_check import (
    check_tensors,
    inner_types,
    kernels_serve,
    reference,
)
from minillm_kernels.triton._attention_configurations import attention_configurations
from minillm_kernels.triton._attention_launch import Lengths, attend, attend_backward

__all__ = [
    "configurations",
    "deterministic",
    "flash_attention",
    "flash_attention_backward",
    "flash_attention_varlen",
    "flash_attention_varlen_backward",
    "is_deterministic",
]

_DETERMINISTIC: ContextVar[bool] = ContextVar("minillm_deterministic_attention", default=True)


@contextlib.contextmanager
def deterministic(wanted):
    """Whether backwards inside `with deterministic(False):` must give the same bits every time.

    If not, one kernel makes dq beside dk and dv: 5 products instead of 7, but dq's parts are added
    up in the order in which blocks happen to finish.
    """
    token = _DETERMINISTIC.set(bool(wanted))
    try:
        yield
    finally:
        _DETERMINISTIC.reset(token)


is_deterministic = _DETERMINISTIC.get


def flash_attention(q, k, v, bias=None, *, causal=False, mask=None, scale=None, block=128):
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    kwargs = {"causal": causal, "mask": mask, "scale": scale}
    if not kernels_serve(q):
        out, saved = reference("flash_attention")[0](q, k, v, bias, **kwargs, block=block)
        return out, (None, saved)
    out, saved = _forward(q, k, v, bias, **kwargs)
    return out, ("triton", saved)


def flash_attention_backward(dout, cache):
    by, saved = cache
    return reference("flash_attention")[1](dout, saved) if by is None else _backward(dout, saved)


@on_tensors
def _forward(q, k, v, bias, *, causal, mask, scale):
    check_tensors("flash_attention", q, k, v, bias, mask)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else float(scale)
    dtype, multiplied = inner_types("flash_attention", q.dtype)
    given = q.dtype
    q, k, v = (x.to(dtype) for x in (q, k, v))
    options = {"causal": bool(causal), "scale": scale, "precision": multiplied}
    out, log_sum = attend(q, k, v, bias, mask, **options)
    return out.to(given), (q, k, v, bias, mask, out, log_sum, given, options)


@on_tensors.backward
def _backward(dout, saved):
    q, k, v, bias, mask, out, log_sum, given, options = saved
    if dout.shape != out.shape:
        shapes = f"{tuple(out.shape)}, got {tuple(dout.shape)}"
        raise ValueError(f"flash_attention_backward: dout must have shape {shapes}")
    grads = attend_backward(
        dout.to(q.dtype), q, k, v, out, log_sum, bias, mask,
        deterministic=is_deterministic(), **options,
    )  # fmt: skip
    return tuple(None if x is None else x.to(given) for x in grads)


def flash_attention_varlen(q, k, v, cu_q, cu_k, max_q, max_k, *, causal=False, scale=None):
    """Attention inside each of many sequences that lie one after the other, without padding.

    Not an op: torch tensors alone.

    Parameters
    ----------
    q : (total T, H, D)
    k : (total S, G, D), H a multiple of G
    v : (total S, G, any)
    cu_q, cu_k : int32 (B + 1,), the first row of each sequence, and last the total. Their values
        are not checked: that would wait for the GPU
    max_q, max_k : int, the longest sequence's length
    causal : bool, query t of a sequence sees its keys s <= t + S - T
    scale : float, by default 1 / sqrt(D)

    Returns
    -------
    out : (total T, H, any)
    cache : for `flash_attention_varlen_backward`

    Raises
    ------
    ValueError
        for shapes, dtypes or devices that do not fit together.
    """
    name = "flash_attention_varlen"
    for label, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, torch.Tensor) or x.ndim != 3:
            shape = tuple(getattr(x, "shape", ()))
            raise ValueError(f"{name}: {label} must be a torch tensor (rows, H, D), got {shape}")
    for label, x in (("cu_q", cu_q), ("cu_k", cu_k)):
        if x.dtype != torch.int32 or x.ndim != 1 or x.shape != cu_q.shape or x.numel() < 2:
            raise ValueError(
                f"{name}: {label} must be int32 (B + 1,), got {x.dtype} {tuple(x.shape)}"
            )
        if x.device != q.device:
            raise ValueError(f"{name}: {label} lies on {x.device}, but q on {q.device}")
    for label, longest in (("max_q", max_q), ("max_k", max_k)):
        if longest < 0:
            raise ValueError(f"{name}: {label} must be at least 0, got {longest}")
    as_heads = [x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
    check_tensors(name, *as_heads)
    scale = 1 / math.sqrt(q.shape[2]) if scale is None else float(scale)
    dtype, multiplied = inner_types(name, q.dtype)
    as_heads = [x.to(dtype) for x in as_heads]
    lengths = Lengths(cu_q.contiguous(), cu_k.contiguous(), int(max_q), int(max_k))
    options = {"causal": bool(causal), "scale": scale, "precision": multiplied, "lengths": lengths}
    with allocating(name):
        rows = torch.empty((*q.shape[:2], v.shape[2]), dtype=dtype, device=q.device)
        out, log_sum = attend(*as_heads, **options, out=rows.transpose(0, 1).unsqueeze(0))
    return rows.to(q.dtype), (q.dtype, as_heads, out, log_sum, options)


def flash_attention_varlen_backward(dout, cache):
    """From dout (total T, H, any): dq, dk, dv, each of its parameter's shape."""
    given, (q, k, v), out, log_sum, options = cache
    if dout.shape != out.squeeze(0).transpose(0, 1).shape:
        shape = tuple(out.squeeze(0).transpose(0, 1).shape)
        raise ValueError(
            f"flash_attention_varlen: dout must have shape {shape}, got {tuple(dout.shape)}"
        )
    dout = dout.to(q.dtype).transpose(0, 1).unsqueeze(0)
    with allocating("flash_attention_varlen_backward"):
        grads = attend_backward(
            dout, q, k, v, out, log_sum, deterministic=is_deterministic(), **options
        )
    return tuple(x.squeeze(0).transpose(0, 1).to(given) for x in grads[:3])


def configurations():
    return attention_configurations()


register("flash_attention", "triton", flash_attention, flash_attention_backward)

"""Multi-head attention: one product makes queries, keys and values, and heads are views of it.

The kernels read heads with the strides that the packed (B, T, (H + 2G) D) gives them, and write
the mixture as (B, T, H D) and the gradients as packed: nothing is copied to be split, joined or
transposed. Rotary positions turn query and key heads in place, one launch for both.

Under precision "bf16" x and the weights are rounded once, everything between is bfloat16, and what
comes out, gradients included, has the parameters' dtype. Dropout takes the reference's way.
"""

import torch

from minillm.ops._op import register
from minillm.ops._params import pick, put_back
from minillm.ops.multi_head_attention import NAMES, head_size
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton._attention_check import (
    check_head,
    check_tensors,
    inner_types,
    kernels_serve,
    reference,
)
from minillm_kernels.triton._attention_launch import attend, attend_backward
from minillm_kernels.triton._sums import round_rows, sum_over_rows
from minillm_kernels.triton.flash_attention import is_deterministic
from minillm_kernels.triton.matmul import matmul
from minillm_kernels.triton.rotary import check_positions, tables, turn

__all__ = [
    "head_sizes",
    "multi_head_attention",
    "multi_head_attention_backward",
    "on_rows",
    "on_rows_backward",
]


def multi_head_attention(
    x,
    params,
    context=None,
    *,
    n_head,
    n_kv_head=None,
    causal=False,
    mask=None,
    rotary_base=None,
    positions=None,
    dropout=0.0,
    rng=None,
):
    kwargs = {
        "n_head": n_head,
        "n_kv_head": n_kv_head,
        "causal": causal,
        "mask": mask,
        "rotary_base": rotary_base,
        "positions": positions,
    }
    if (dropout != 0 and rng is not None) or not kernels_serve(x) or 0 in x.shape:
        forward, _ = reference("multi_head_attention")
        out, saved = forward(x, params, context, **kwargs, dropout=dropout, rng=rng)
        return out, ("reference", saved)
    out, saved = _forward(x, params, context, **kwargs)
    return out, ("triton", saved)


def multi_head_attention_backward(dout, cache):
    by, saved = cache
    if by == "reference":
        return reference("multi_head_attention")[1](dout, saved)
    return _backward(dout, saved)


@on_tensors
def _forward(x, params, context, *, n_head, n_kv_head, **options):
    if options["rotary_base"] is not None and context is not None:
        raise ValueError("rotary_base must be None with a context: rotary is for self attention")
    if context is not None and (context.ndim != 3 or context.shape[::2] != x.shape[::2]):
        wanted = f"({x.shape[0]}, any, {x.shape[2]})"
        raise ValueError(f"context must have shape {wanted}, got {tuple(context.shape)}")
    sizes = head_sizes(x, params, n_head, n_kv_head)
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    dtype, multiplied = inner_types("multi_head_attention", x.dtype)
    rows = x.to(dtype).flatten(0, 1)
    sources = None if context is None else context.to(dtype).flatten(0, 1)
    weights = (W.to(dtype), b, W_out.to(dtype), b_out)
    out, saved = on_rows(
        rows, sources, weights, len(x), sizes, **options, precision=multiplied, out_dtype=x.dtype
    )
    return out.view(x.shape), (params, x.shape, None if context is None else context.shape, saved)


@on_tensors.backward
def _backward(dout, cache):
    params, shape, context_shape, saved = cache
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    dtypes = (dout.dtype, W.dtype, None if b is None else b.dtype, W_out.dtype)
    dout, db_out = round_rows(
        dout.reshape(-1, shape[2]), saved[0].dtype, None if b_out is None else b_out.dtype
    )
    dx, dcontext, *grads = on_rows_backward(dout, saved, dtypes)
    if dcontext is not None:
        dcontext = dcontext.view(context_shape)
    return dx.view(shape), put_back(params, NAMES, (*grads, db_out)), dcontext


def head_sizes(x, params, n_head, n_kv_head):
    """(H, G, D), of parameters that fit x (B, T, C) and heads that the kernels serve."""
    W, b, W_out, _ = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    G = n_head if n_kv_head is None else n_kv_head
    D = head_size(x, W, b, W_out, n_head, G)
    check_head("multi_head_attention", "params qkv.weight", D)
    return n_head, G, D


def on_rows(
    rows, sources, weights, B, sizes, *, causal, mask, rotary_base, positions, precision, **last
):
    """The op on rows of one dtype; `last` is for the last product.

    Parameters
    ----------
    rows : (B T, C); sources : (B S, C) that keys and values are made of, or None for the rows
    weights : (C, (H + 2G) D), bias or None, (H D, C), bias or None
    sizes : (H, G, D)
    precision : "ieee" or "tf32", see `attend`

    Returns
    -------
    out : (B T, C)
    saved : what `on_rows_backward` takes
    """
    name, (H, G, D), (weight, b, weight_out, b_out) = "multi_head_attention", sizes, weights
    if sources is None:
        qkv = matmul(rows, weight, bias=b)  # (B T, (H + 2G) D)
        q, k, v = heads_of(qkv, B, H, G, D)
    else:
        end = H * D
        b_q, b_kv = (None, None) if b is None else (b[:end], b[end:])
        q = first_heads(matmul(rows, weight[:, :end], bias=b_q), B, H, D)
        kv = matmul(sources, weight[:, end:], bias=b_kv)
        _, k, v = heads_of(kv, B, 0, G, D)
        qkv = None
    check_tensors(name, q, k, v, None, mask)
    angles = None
    if rotary_base is not None:
        if D % 2:
            raise ValueError(f"rotary_base must be None where heads are odd, got heads of {D}")
        T = len(rows) // B
        check_positions(positions, T)
        angles = tables(positions, T, D, rotary_base, rows)
        turned = first_heads(qkv, B, H + G, D)
        turn(turned, *angles, out=turned)
    options = {"causal": bool(causal), "scale": D**-0.5, "precision": precision}
    mixed = torch.empty((rows.shape[0], H * D), dtype=rows.dtype, device=rows.device)
    _, log_sum = attend(q, k, v, None, mask, **options, out=first_heads(mixed, B, H, D))
    out = matmul(mixed, weight_out, bias=b_out, **last)
    arrays = (sources, weight, weight_out, qkv, q, k, v, mixed, log_sum, mask, angles)
    return out, (rows, B, sizes, options, arrays)


def on_rows_backward(dout, saved, dtypes):
    """The gradients of rows, sources, and both weights and the first bias, (dW, db, dW_out).

    dout : (B T, C), of the rows' dtype; the last bias's gradient is the sum of its rows.
    dtypes : of rows' and sources' gradients, dW, db (None: no gradient) and dW_out
    """
    rows, B, (H, G, D), options, arrays = saved
    sources, weight, weight_out, qkv, q, k, v, mixed, log_sum, mask, angles = arrays
    dtype, W_dtype, b_dtype, W_out_dtype = dtypes
    # forward: out = mixed @ W_out + b_out
    dmixed = matmul(dout, weight_out.T)
    dW_out = matmul(mixed.T, dout, out_dtype=W_out_dtype)
    # forward: mixed = attend(q, k, v), all of them views
    if sources is None:
        dqkv = torch.empty_like(qkv)
        grads = heads_of(dqkv, B, H, G, D)
    else:
        dq_rows = torch.empty_like(mixed)
        dkv = torch.empty((sources.shape[0], 2 * G * D), dtype=mixed.dtype, device=mixed.device)
        grads = (
            first_heads(dq_rows, B, H, D),
            *heads_of(dkv, B, 0, G, D)[1:],
        )
    attend_backward(
        first_heads(dmixed, B, H, D), q, k, v, first_heads(mixed, B, H, D), log_sum, None, mask,
        deterministic=is_deterministic(), grads=grads, **options,
    )  # fmt: skip
    # forward: q, k = rotary(q), rotary(k)
    if angles is not None:
        turned = first_heads(dqkv, B, H + G, D)
        turn(turned, *angles, back=True, out=turned)
    # forward: qkv = rows @ W + b, or q of rows and k, v of the sources
    db = None
    if sources is None:
        drows, dsources = matmul(dqkv, weight.T, out_dtype=dtype), None
        dW = matmul(rows.T, dqkv, out_dtype=W_dtype)
        if b_dtype is not None:
            db = sum_over_rows(dqkv, out_dtype=b_dtype)
    else:
        end = H * D
        drows = matmul(dq_rows, weight[:, :end].T, out_dtype=dtype)
        dsources = matmul(dkv, weight[:, end:].T, out_dtype=dtype)
        pairs = ((rows, dq_rows), (sources, dkv))
        dW = torch.cat([matmul(r.T, d, out_dtype=W_dtype) for r, d in pairs], 1)
        if b_dtype is not None:
            db = torch.cat([sum_over_rows(d, out_dtype=b_dtype) for d in (dq_rows, dkv)])
    return drows, dsources, dW, db, dW_out


def first_heads(rows, B, heads, D):
    """The first heads of rows (B T, any): a view (B, heads, T, D)."""
    return (
        rows.view(B, -1, rows.shape[1])[..., : heads * D].unflatten(2, (heads, D)).transpose(1, 2)
    )


def heads_of(rows, B, H, G, D):
    """Views (B, H, T, D), (B, G, T, D) and (B, G, T, D) of packed rows (B T, (H + 2G) D)."""
    packed = rows.view(B, -1, H + 2 * G, D).transpose(1, 2)
    return packed[:, :H], packed[:, H : H + G], packed[:, H + G :]


register("multi_head_attention", "triton", multi_head_attention, multi_head_attention_backward)

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
from minillm_kernels.triton.flash_attention import is_deterministic
from minillm_kernels.triton.matmul import matmul, sum_over_rows
from minillm_kernels.triton.rotary import check_positions, tables, turn

__all__ = ["multi_head_attention", "multi_head_attention_backward"]


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
def _forward(x, params, context, *, n_head, n_kv_head, causal, mask, rotary_base, positions):
    name = "multi_head_attention"
    if rotary_base is not None and context is not None:
        raise ValueError("rotary_base must be None with a context: rotary is for self attention")
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    H, G = n_head, n_head if n_kv_head is None else n_kv_head
    D = head_size(x, W, b, W_out, H, G)
    check_head(name, "params qkv.weight", D)
    dtype, multiplied = inner_types(name, x.dtype)
    rows, weight, weight_out = x.to(dtype).flatten(0, 1), W.to(dtype), W_out.to(dtype)
    if context is None:
        sources = None
        qkv = matmul(rows, weight, bias=b)  # (B T, (H + 2G) D)
        q, k, v = heads_of(qkv, x.shape[0], H, G, D)
    else:
        if context.ndim != 3 or context.shape[::2] != x.shape[::2]:
            wanted = f"({x.shape[0]}, any, {x.shape[2]})"
            raise ValueError(f"context must have shape {wanted}, got {tuple(context.shape)}")
        sources = context.to(dtype).flatten(0, 1)
        end = H * D
        b_q, b_kv = (None, None) if b is None else (b[:end], b[end:])
        q = first_heads(matmul(rows, weight[:, :end], bias=b_q), x.shape[0], H, D)
        kv = matmul(sources, weight[:, end:], bias=b_kv)
        _, k, v = heads_of(kv, x.shape[0], 0, G, D)
        qkv = None
    check_tensors(name, q, k, v, None, mask)
    angles = None
    if rotary_base is not None:
        if D % 2:
            raise ValueError(f"rotary_base must be None where heads are odd, got heads of {D}")
        check_positions(positions, x.shape[1])
        angles = tables(positions, x.shape[1], D, rotary_base, x)
        turned = first_heads(qkv, x.shape[0], H + G, D)
        turn(turned, *angles, out=turned)
    options = {"causal": bool(causal), "scale": D**-0.5, "precision": multiplied}
    mixed = torch.empty((rows.shape[0], H * D), dtype=dtype, device=x.device)
    mixed_heads = first_heads(mixed, x.shape[0], H, D)
    _, log_sum = attend(q, k, v, None, mask, **options, out=mixed_heads)
    out = matmul(mixed, weight_out, bias=b_out, out_dtype=x.dtype).view(x.shape)
    arrays = (rows, sources, weight, weight_out, qkv, q, k, v, mixed, log_sum, mask, angles)
    shapes = (x.shape, None if context is None else context.shape)
    return out, (params, shapes, (H, G, D), options, arrays)


@on_tensors.backward
def _backward(dout, saved):
    params, (shape, context_shape), (H, G, D), options, arrays = saved
    rows, sources, weight, weight_out, qkv, q, k, v, mixed, log_sum, mask, angles = arrays
    W, b, W_out, b_out = pick("params", params, NAMES, optional=("qkv.bias", "out.bias"))
    B = shape[0]
    # forward: out = mixed @ W_out + b_out
    dout = dout.reshape(-1, shape[2])
    dout_rows = dout.to(mixed.dtype)
    dmixed = matmul(dout_rows, weight_out.T)
    dW_out = matmul(mixed.T, dout_rows, out_dtype=W_out.dtype)
    db_out = None if b_out is None else sum_over_rows(dout, out_dtype=b_out.dtype)
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
    # forward: qkv = x @ W + b, or q of x and k, v of the context
    x_dtype, dcontext = dout.dtype, None
    if sources is None:
        dx = matmul(dqkv, weight.T, out_dtype=x_dtype)
        dW = matmul(rows.T, dqkv, out_dtype=W.dtype)
        db = None if b is None else sum_over_rows(dqkv, out_dtype=b.dtype)
    else:
        end = H * D
        dx = matmul(dq_rows, weight[:, :end].T, out_dtype=x_dtype)
        dcontext = matmul(dkv, weight[:, end:].T, out_dtype=x_dtype).view(context_shape)
        pairs = ((rows, dq_rows), (sources, dkv))
        dW = torch.cat([matmul(r.T, d, out_dtype=W.dtype) for r, d in pairs], 1)
        if b is None:
            db = None
        else:
            db = torch.cat([sum_over_rows(d, out_dtype=b.dtype) for d in (dq_rows, dkv)])
    return dx.view(shape), put_back(params, NAMES, (dW, db, dW_out, db_out)), dcontext


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

"""Launching the attention kernels: which variant a problem gets, and its arguments.

Tensors are (B, H, T, D) views of any strides but 1 in the last dimension, so queries, keys and
values are read where a projection wrote them, without transposing copies. Sequences of different
lengths lie one after the other in B = 1, and `Lengths` says where each begins.
"""

import dataclasses
import math

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from minillm_kernels.arrays import check_grid, interpreted
from minillm_kernels.triton import _device as device
from minillm_kernels.triton._attention_forward import forward_kernel
from minillm_kernels.triton._attention_keys import keys_kernel
from minillm_kernels.triton._attention_queries import delta_kernel, queries_kernel
from minillm_kernels.triton._attention_tiles import pieces

__all__ = ["LARGEST_HEAD", "Lengths", "attend", "attend_backward", "can_use_tma"]

LARGEST_HEAD = 128
LOG2E = math.log2(math.e)
FORWARD_DESCRIPTORS = (("q", "BLOCK_T"), ("k", "BLOCK_S"), ("v", "BLOCK_S"))
QUERIES_DESCRIPTORS = (*FORWARD_DESCRIPTORS, ("dout", "BLOCK_T"))
KEYS_DESCRIPTORS = (*QUERIES_DESCRIPTORS, ("dq", "BLOCK_T"))
L2_BYTES = 32 * 2**20  # of keys and values at a time, of an H100's 50 MB or an A100's 40 MB


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Where sequences begin: (B + 1,) int32 each, and the longest of them."""

    starts_q: torch.Tensor
    starts_k: torch.Tensor
    max_q: int
    max_k: int


def can_use_tma(*tensors, lengths=None):
    """Whether the copy engine can read these: sm_90, 16-bit numbers, 16-byte rows, whole heads.

    Not sequences of different lengths: a tile past the end of one would read the next one's rows.
    """
    size = tensors[0].shape[-1]
    return (
        device.arch() == 90
        and lengths is None
        and size in (16, 32, 64, 128)
        and all(
            t.dtype in (torch.float16, torch.bfloat16)
            and t.shape[-1] == size
            and t.data_ptr() % 16 == 0
            and t.stride(3) == 1
            and all(
                n == 1 or (stride > 0 and stride * t.element_size() % 16 == 0)
                for n, stride in zip(t.shape[:3], t.stride(), strict=False)
            )
            for t in tensors
        )
    )


def describe(tensor):
    """A descriptor for the copy engine; its block is set when the tile sizes are chosen."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    strides = [tensor.shape[3] if n == 1 else stride for n, stride in pairs]  # any will do for one
    return TensorDescriptor(tensor, list(tensor.shape), [*strides[:3], 1], [1, 1, 1, 16])


def tiled(name, blocks, heads, descriptors=()):
    """The grid of a launch, as a function of the chosen tile sizes; it fits the descriptors too.

    blocks : (length, which constant is the tile's size)
    descriptors : (argument, which constant is its number of rows), ...
    """
    length, block = blocks

    def grid(arguments):
        for argument, rows in descriptors:
            if isinstance(arguments[argument], TensorDescriptor):
                arguments[argument].block_shape = [1, 1, arguments[rows], arguments["D0"]]
        size = (triton.cdiv(length, arguments[block]) * heads,)
        check_grid(name, size)
        return size

    return grid


def rows_of(tensor):
    """A view that kernels can index by 32-bit numbers inside a head: last stride 1, not too far."""
    far = tensor.shape[2] * abs(tensor.stride(2)) >= 2**31
    if tensor.stride(3) != 1 and tensor.shape[3] > 1:
        return tensor.contiguous()
    return tensor.contiguous() if far else tensor


def common(q, k, v, bias, mask, causal, scale, lengths):
    """The arguments that all kernels take."""
    B, H, T, D = q.shape
    G, S, DV = k.shape[1], k.shape[2], v.shape[3]
    D0, D1 = pieces(max(D, DV))
    starts_q = starts_k = None
    if lengths is not None:
        B, T, S = lengths.starts_q.shape[0] - 1, lengths.max_q, lengths.max_k
        starts_q, starts_k = lengths.starts_q, lengths.starts_k
    widen = interpreted() and q.dtype in (torch.float16, torch.bfloat16)
    double = q.dtype == torch.float64
    arguments = {
        "bias": bias,
        "mask": None if mask is None else mask.view(torch.uint8),
        "starts_q": starts_q,
        "starts_k": starts_k,
        "T": T,
        "S": S,
        "H": H,
        "R": H // G,
        "qk_scale": scale * LOG2E,
        "size_class": triton.next_power_of_2(max(T, S)),
        "CAUSAL": causal,
        "EXPLICIT": bias is not None or scale <= 0,
        "BIAS": bias is not None,
        "MASK": mask is not None,
        "VARLEN": lengths is not None,
        "WIDEN": widen,
        "ACC": tl.float64 if double else tl.float32,
        "D": D,
        "DV": DV,
        "D0": D0,
        "D1": D1,
    }
    for name, broadcast in (("bias", bias), ("mask", mask)):
        steps = (0, 0, 0, 0)
        if broadcast is not None:
            pairs = zip(broadcast.shape, broadcast.stride(), strict=True)
            steps = [0 if n == 1 else stride for n, stride in pairs]
        arguments |= {f"{name}_{axis}": step for axis, step in zip("bhts", steps, strict=True)}
    together = L2_BYTES // max(1, S * (D + DV) * q.element_size())
    return arguments, (B, H, G, T, S), max(1, together)


def strides(lengths, **tensors):
    """{name_b, name_h, name_t: elements}; sequences in one row have no stride between them."""
    found = {}
    for name, tensor in tensors.items():
        b, h, t = tensor.stride()[:3]
        found |= {f"{name}_b": 0 if lengths else b, f"{name}_h": h, f"{name}_t": t}
    return found


def forward_arguments(q, k, v, bias, mask, out, lse, *, causal, scale, precision, lengths, tma):
    """Every argument of `forward_kernel` but the tile sizes, and the size of its grid."""
    arguments, (B, H, _, T, _), together = common(q, k, v, bias, mask, causal, scale, lengths)
    heads = B * H
    arguments |= strides(lengths, q=q, k=k, v=v, out=out)
    arguments |= {
        "q": describe(q) if tma else q,
        "k": describe(k) if tma else k,
        "v": describe(v) if tma else v,
        "out": out,
        "log_sum": lse,
        "lse_b": 0 if lengths else lse.stride(0),
        "lse_h": lse.stride(1),
        "heads": heads,
        "together": min(heads, together * (H // k.shape[1])),
        "TMA": tma,
        "PRECISION": precision,
    }
    return arguments, (T, heads)


def attend(
    q, k, v, bias=None, mask=None, *, causal, scale, precision="ieee", lengths=None, out=None
):
    """Attention's forward.

    Parameters
    ----------
    q : (B, H, T, D); (1, H, total T, D) with lengths
    k : (B, G, S, D), v : (B, G, S, DV)
    bias, mask : None or (B, H, T, S), 1 in any place; mask of bool
    precision : "ieee" or "tf32", what float32 products are
    out : None or (B, H, T, DV), written to

    Returns
    -------
    out : (B, H, T, DV), in q's dtype
    log_sum : (B, H, T), the natural logarithm of each query's sum of exponentials
    """
    q, k, v = rows_of(q), rows_of(k), rows_of(v)
    out = q.new_empty(*q.shape[:3], v.shape[3]) if out is None else out
    double = torch.float64 if q.dtype == torch.float64 else torch.float32
    lse = q.new_empty(q.shape[:3], dtype=double)
    tma = can_use_tma(q, k, v, lengths=lengths)
    arguments, (T, heads) = forward_arguments(
        q, k, v, bias, mask, out, lse,
        causal=causal, scale=scale, precision=precision, lengths=lengths, tma=tma,
    )  # fmt: skip
    if T * heads == 0 or v.shape[3] == 0:
        return out, lse
    grid = tiled("flash_attention", (T, "BLOCK_T"), heads, FORWARD_DESCRIPTORS)
    forward_kernel[grid](**arguments)
    return out, lse


def delta_arguments(out, dout, delta, lengths, T, B):
    arguments = strides(lengths, out=out, dout=dout) | {
        "out": out,
        "dout": dout,
        "delta": delta,
        "starts_q": lengths.starts_q if lengths else None,
        "T": T,
        "H": out.shape[1],
        "lse_b": 0 if lengths else delta.stride(0),
        "lse_h": delta.stride(1),
        "VARLEN": lengths is not None,
        "ACC": tl.float64 if delta.dtype == torch.float64 else tl.float32,
        "DV": out.shape[3],
        "BLOCK_D": triton.next_power_of_2(out.shape[3]),
        "BLOCK_T": 64,
    }
    return arguments, (triton.cdiv(T, 64) * B * out.shape[1],)


def backward_arguments(
    q, k, v, bias, mask, dout, lse, delta, dq, dk, dv, dbias,
    *, causal, scale, precision, lengths, tma, fused,
):  # fmt: skip
    """The arguments of `keys_kernel` and of `queries_kernel`, and the sizes of their grids."""
    shared, (B, H, G, T, S), together = common(q, k, v, bias, mask, causal, scale, lengths)
    shared |= strides(lengths, q=q, k=k, v=v, dout=dout, dq=dq)
    shared |= {
        "q": describe(q) if tma else q,
        "k": describe(k) if tma else k,
        "v": describe(v) if tma else v,
        "dout": describe(dout) if tma else dout,
        "lse": lse,
        "delta": delta,
        "lse_b": 0 if lengths else lse.stride(0),
        "lse_h": lse.stride(1),
        "scale": scale,
        "TMA": tma,
        "PRECISION": precision,
    }
    keys = shared | strides(lengths, dk=dk, dv=dv)
    adds = tma and fused and not interpreted()  # the interpreter cannot add through a descriptor
    keys |= {"dk": dk, "dv": dv, "dq": describe(dq) if adds else dq}
    keys |= {"FUSED": fused, "TMA_ADDS": adds}
    keys |= {"heads": B * G, "together": min(B * G, together)}
    queries = shared | {"dq": dq, "dbias": dbias}
    steps = (0, 0, 0) if dbias is None else dbias.stride()[:3]
    queries |= {f"dbias_{axis}": step for axis, step in zip("bht", steps, strict=True)}
    queries |= {"heads": B * H, "together": min(B * H, together * (H // G))}
    return (keys, (S, B * G)), (queries, (T, B * H))


def attend_backward(
    dout, q, k, v, out, lse, bias=None, mask=None,
    *, causal, scale, precision="ieee", lengths=None, deterministic=True, grads=None,
):  # fmt: skip
    """Attention's backward, from what `attend` was given and gave.

    Parameters
    ----------
    dout, out : (B, H, T, DV)
    deterministic : bool; False makes dq by atomic additions beside dk and dv, 5 products for 7
    grads : None or (dq, dk, dv), written to

    Returns
    -------
    dq, dk, dv : each of its parameter's shape
    dbias : None or of bias's shape
    """
    q, k, v, dout, out = (rows_of(x) for x in (q, k, v, dout, out))
    dq, dk, dv = grads or (torch.empty_like(x) for x in (q, k, v))
    delta = torch.empty_like(lse)
    fused = not deterministic and bias is None and q.dtype != torch.float64
    dbias = None
    if bias is not None:
        dbias = torch.zeros(*q.shape[:3], k.shape[2], dtype=lse.dtype, device=q.device)
    tma = can_use_tma(q, k, v, dout, lengths=lengths)
    # what is added atomically is added in float32
    sums = torch.empty(q.shape, dtype=lse.dtype, device=q.device) if fused else dq
    (keys, (S, key_heads)), (queries, (T, heads)) = backward_arguments(
        q, k, v, bias, mask, dout, lse, delta, sums, dk, dv, dbias,
        causal=causal, scale=scale, precision=precision, lengths=lengths, tma=tma, fused=fused,
    )  # fmt: skip
    if T * heads == 0:
        return dq, dk.zero_(), dv.zero_(), None if bias is None else torch.zeros_like(bias)
    arguments, grid = delta_arguments(out, dout, delta, lengths, T, heads // q.shape[1])
    check_grid("flash_attention_backward", grid)
    delta_kernel[grid](**arguments)
    name = "flash_attention_backward"
    tiles = tiled(name, (S, "BLOCK_S"), key_heads, KEYS_DESCRIPTORS)

    def grid(arguments):  # asked for before every launch, those that measure included
        if fused:
            sums.zero_()
        return tiles(arguments)

    keys_kernel[grid](**keys)
    if fused:
        dq.copy_(sums)
    else:
        grid = tiled(name, (T, "BLOCK_T"), heads, QUERIES_DESCRIPTORS)
        queries_kernel[grid](**queries)
    if dbias is not None:
        axes = [axis for axis, n in enumerate(bias.shape) if n == 1 and dbias.shape[axis] != 1]
        dbias = (dbias.sum(axes, keepdim=True) if axes else dbias).to(bias.dtype)
    return dq, dk, dv, dbias

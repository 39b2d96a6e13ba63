"""What the attention ops refuse before a launch, and what they leave to the reference."""

import torch

from minillm.ops._attention import check_attention
from minillm.ops._state import Registry
from minillm_kernels import precision
from minillm_kernels.arrays import check_place, interpreted
from minillm_kernels.triton import _device as device
from minillm_kernels.triton._attention_launch import LARGEST_HEAD

__all__ = ["check_head", "check_tensors", "inner_types", "kernels_serve", "reference"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INNER = {"float32": "ieee", "tf32": "tf32", "bf16": "ieee"}


def reference(name):
    """The NumPy pair of an op: (forward, backward)."""
    return Registry.ops[name]["numpy"]


def kernels_serve(x):
    """Whether the kernels compute in x's dtype: tensor cores' products are no float64's."""
    return interpreted() or str(x.dtype).removeprefix("torch.") != "float64"


def check_tensors(name, q, k, v, bias=None, mask=None):
    """Refuse what the kernels cannot read.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    check_attention(q, k, v, bias, None)
    full = (*q.shape[:3], k.shape[2])
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(f"mask must be an array of bool, got dtype {mask.dtype}")
        if mask.ndim != 4 or any(n not in (1, m) for n, m in zip(mask.shape, full, strict=True)):
            shape = tuple(mask.shape)
            raise ValueError(f"mask must have shape {full}, or 1 in any place, got {shape}")
    for label, tensor in (("q", q), ("k", k), ("v", v), ("bias", bias), ("mask", mask)):
        if tensor is not None:
            check_place(name, label, tensor)
            if tensor.device != q.device:
                raise ValueError(f"{name}: {label} lies on {tensor.device}, but q on {q.device}")
    if q.dtype not in DTYPES:
        raise ValueError(f"{name}: q must be float16, bfloat16 or float32, got {q.dtype}")
    for label, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype:
            raise ValueError(f"{name}: {label} must have q's dtype {q.dtype}, got {tensor.dtype}")
    check_head(name, "q", q.shape[3])
    check_head(name, "v", v.shape[3])


def check_head(name, label, size):
    if not 1 <= size <= LARGEST_HEAD:
        raise ValueError(f"{name}: {label} must have heads of 1 to {LARGEST_HEAD}, got {size}")


def inner_types(name, dtype):
    """What attention computes with for inputs of `dtype`: a dtype, and how float32 multiplies.

    Raises
    ------
    ValueError
        for bfloat16 on a GPU that has none.
    """
    multiplied = "ieee"
    if dtype == torch.float32:
        chosen = precision.current()
        dtype = torch.bfloat16 if chosen == "bf16" else dtype
        multiplied = INNER[chosen]
    if not interpreted() and device.arch() == 75:
        multiplied = "ieee"
        if dtype == torch.bfloat16:
            raise ValueError(f"{name}: bfloat16 needs compute capability 8.0: use float16")
    return dtype, multiplied

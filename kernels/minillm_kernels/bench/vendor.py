"""The same ops with their products by cuBLAS, for comparison alone: what our products cost a step.

The product does not use this; a benchmark puts it in the place of `matmul` while it measures.
"""

import contextlib
import sys

import torch
from torch.nn import functional

__all__ = ["matmul", "products_by"]

USERS = ("linear", "mlp_gelu", "swiglu", "multi_head_attention", "linear_cross_entropy", "lstm")


@contextlib.contextmanager
def products_by(library):
    """Inside, the triton ops multiply by "triton", as they are, or by "cublas"."""
    if library == "triton":
        yield
        return
    modules = [sys.modules.get(f"minillm_kernels.triton.{name}") for name in USERS]
    modules = [module for module in modules if hasattr(module, "matmul")]
    before = [module.matmul for module in modules]
    for module in modules:
        module.matmul = matmul
    try:
        yield
    finally:
        for module, ours in zip(modules, before, strict=True):
            module.matmul = ours


def matmul(
    a, b, *, bias=None, epilogue="none", other=None, keep=False, sums=False, out=None, add=False,
    out_dtype=None, kernel=None,
):  # fmt: skip
    """`minillm_kernels.triton.matmul.matmul` by torch; what follows a product is torch's too."""
    wide = a @ b
    if bias is not None:
        wide = wide + bias.to(wide.dtype)
    if epilogue.startswith("gelu_"):
        y = functional.gelu(wide, approximate=epilogue.removeprefix("gelu_"))
    elif epilogue.startswith("dgelu_"):
        form = epilogue.removeprefix("dgelu_")
        y = torch.ops.aten.gelu_backward(wide, other, approximate=form)
    elif epilogue == "swiglu":
        y = wide * functional.silu(other)
    elif epilogue == "add":
        y = wide + other
    else:
        y = wide
    if out is None:
        out = y.to(out_dtype or a.dtype)
    elif add:
        out.add_(y)
    else:
        out.copy_(y)
    if keep:
        return out, wide
    return (out, y.sum(0, dtype=torch.float32)) if sums else out

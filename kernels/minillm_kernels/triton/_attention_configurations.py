"""The attention kernels' configurations for the offline compiler, from the launcher's own arguments.

The launcher is asked for its arguments on tensors without memory (torch's "meta" device), so what
is compiled is what a launch would compile.
"""

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from minillm_kernels.triton._compile import Configuration

__all__ = ["configure", "meta"]

TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
}
NO_BF16 = {75: "a T4 has no bfloat16: use float16"}


def meta(*shape, dtype):
    return torch.empty(shape, dtype=dtype, device="meta")


def configure(name, kernel, arguments, choice, arches, descriptors=(), **claims):
    """A Configuration of a launch with these arguments and this choice.

    Parameters
    ----------
    kernel : Tuned
    arguments : dict, what the launcher passes
    descriptors : (argument, which constant is its number of rows), ...
    claims : no_spills, expects, refused
    """
    arguments = arguments | choice.constants
    constexprs = {p.name for p in kernel.kernel.params if p.is_constexpr}
    for argument, rows in descriptors:
        if isinstance(arguments[argument], TensorDescriptor):
            arguments[argument].block_shape = [1, 1, arguments[rows], arguments["D0"]]
    signature, constants = {}, {}
    for label, value in arguments.items():
        if label in constexprs or value is None or (type(value) is int and value == 1):
            constants[label] = value
        else:
            signature[label] = _type(value)
    return Configuration(
        name=f"{name} {choice.name}",
        kernel=kernel,
        signature=signature,
        constants=constants,
        num_warps=choice.num_warps,
        num_stages=choice.num_stages,
        arches=tuple(arches),
        **claims,
    )


def _type(value):
    if isinstance(value, TensorDescriptor):
        block = ", ".join(map(str, value.block_shape))
        return f"tensordesc<{TYPES[value.base.dtype]}[{block}]>"
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    if isinstance(value, float):
        return "fp32"
    bits = "i32" if abs(value) < 2**31 else "i64"
    return f"{bits}:16" if value % 16 == 0 else bits

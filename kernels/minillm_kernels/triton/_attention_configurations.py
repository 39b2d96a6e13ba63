"""The attention kernels' configurations for the offline compiler, from the launcher's arguments.

The launcher is asked for its arguments on tensors without memory (torch's "meta" device), so what
is compiled is what a launch would compile.
"""

import dataclasses

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from minillm_kernels.triton import _attention_launch as launch
from minillm_kernels.triton._attention_forward import forward_kernel
from minillm_kernels.triton._attention_keys import keys_kernel
from minillm_kernels.triton._attention_queries import delta_kernel, queries_kernel
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._tune import Tuned

__all__ = ["attention_configurations", "configure", "meta"]

TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
}
WANTED = ("wgmma", "tma")
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
    jitted = kernel.kernel if isinstance(kernel, Tuned) else kernel
    constexprs = {p.name for p in jitted.params if p.is_constexpr}
    for argument, rows in descriptors:
        if isinstance(arguments[argument], TensorDescriptor):
            arguments[argument].block_shape = [1, 1, arguments[rows], arguments["D0"]]
    signature, constants = {}, {}
    for label, value in arguments.items():
        value = value.view(torch.uint8) if getattr(value, "dtype", None) == torch.bool else value
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


@dataclasses.dataclass(frozen=True)
class Case:
    """What a model may ask of the kernels, as far as it makes other code."""

    dtype: torch.dtype
    size: int
    tma: bool = False
    causal: bool = True
    masked: bool = False
    varlen: bool = False
    fused: bool = False
    once: bool = False  # with the first choice alone: what the others differ in, another case has
    arches: tuple = (75, 80, 90)

    @property
    def name(self):
        flags = [f for f in ("tma", "masked", "varlen", "fused") if getattr(self, f)]
        flags += [] if self.causal else ["full"]
        return " ".join([str(self.dtype).removeprefix("torch."), f"D={self.size}", *flags])

    def arguments(self):
        """What the three kernels get: (forward, keys, queries)."""
        B, H, T, D = 2, 4, 1024, self.size
        q = meta(B, H, T, D, dtype=self.dtype)
        lse = meta(B, H, T, dtype=torch.float32)
        sums = meta(B, H, T, D, dtype=torch.float32) if self.fused else q
        mask = meta(B, 1, T, T, dtype=torch.bool) if self.masked else None
        bias = meta(B, H, T, T, dtype=torch.float32) if self.masked else None
        starts = meta(B + 1, dtype=torch.int32)
        options = {
            "causal": self.causal,
            "scale": D**-0.5,
            "precision": "ieee",
            "lengths": launch.Lengths(starts, starts, T, T) if self.varlen else None,
            "tma": self.tma,
        }
        forward, _ = launch.forward_arguments(q, q, q, bias, mask, q, lse, **options)
        (keys, _), (queries, _) = launch.backward_arguments(
            q, q, q, bias, mask, q, lse, lse, sums, q, q, bias, **options, fused=self.fused
        )
        return forward, keys, queries


HALF, BF16, FULL = torch.float16, torch.bfloat16, torch.float32
CASES = [
    Case(BF16, 64, tma=True, arches=(90,)),
    Case(BF16, 128, tma=True, arches=(90,)),
    Case(BF16, 64, tma=True, fused=True, arches=(90,)),
    Case(BF16, 128, tma=True, fused=True, arches=(90,)),
    Case(BF16, 128, tma=True, causal=False, once=True, arches=(90,)),
    Case(HALF, 64, arches=(75, 80)),
    Case(BF16, 128, varlen=True, once=True, arches=(80, 90)),
    Case(HALF, 80, arches=(90,)),
    Case(BF16, 96, arches=(80, 90)),
    Case(FULL, 64, arches=(90,)),
    Case(HALF, 64, masked=True, arches=(80, 90)),
]
# Claimed to need no stack: all of sm_75 and sm_90 but these. Triton 3.6 compiles both without one,
# 3.9 the first with up to 112 bytes, 3.7 the second with 8. On sm_80 one compiler or the other
# spills up to 32 bytes in some tiles.
SPILLS = {
    ("forward", 128, True, "BLOCK_T=128 BLOCK_S=128 OVERLAP=True warps=8 stages=2"),
    ("keys", 64, True, "BLOCK_T=128 BLOCK_S=64 ONE_LOOP=True warps=4 stages=2"),
}


def attention_configurations():
    """list of Configuration: every choice of every kernel that serves a case, or the first."""
    found = []
    for case in CASES:
        forward, keys, queries = case.arguments()
        rows = (
            ("forward", forward_kernel, forward, launch.FORWARD_DESCRIPTORS),
            ("keys", keys_kernel, keys, launch.KEYS_DESCRIPTORS),
            ("queries", queries_kernel, queries, launch.QUERIES_DESCRIPTORS),
        )
        for name, kernel, arguments, descriptors in rows:
            if case.fused and name != "keys":
                continue
            for arch in case.arches:
                choices = kernel.choices_for(arguments, arch)
                for choice in choices[:1] if case.once else choices:
                    known = (name, case.size, case.tma, choice.name) in SPILLS or arch == 80
                    claims = {"no_spills": not known, "expects": WANTED if case.tma else ()}
                    refused = NO_BF16 if case.dtype == BF16 else {}
                    label = f"{name} sm_{arch} {case.name}"
                    one = (label, kernel, arguments, choice, [arch], descriptors)
                    found.append(configure(*one, **claims, refused=refused))
    lse = meta(2, 4, 1024, dtype=FULL)
    out = meta(2, 4, 1024, 64, dtype=HALF)
    arguments, _ = launch.delta_arguments(out, out, lse, None, 1024, 2)
    found.append(configure("delta", delta_kernel, arguments, Fixed(), (75, 80, 90)))
    return found


class Fixed:
    """The choice of a kernel that has but one."""

    name, constants, num_warps, num_stages = "", {}, 4, 3

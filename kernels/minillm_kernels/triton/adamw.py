"""AdamW (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1; Loshchilov & Hutter 2019,
arXiv:1711.05101, algorithm 2) over all tensors of a model in one launch.

A parameter in float32 moves 28 bytes: p, g, m, v are read, p, m, v written; 26 with a gradient in
bfloat16, and 2 more for a copy of the weights in bfloat16. At 15 operations or so for each the
memory decides, once the 148 tensors of a GPT-2 are not 148 launches of a few microseconds each.

The state and the arithmetic are `minillm.optim.AdamW`'s, which see: the moments without their
factors (1 - b1) and (1 - b2), decay for leaves of two or more dimensions alone. So a run can change
between the two. What depends on the step (the corrections of the start at zero, the learning rate,
the clip factor) is worked out on the GPU, in float64 as Python does, by a kernel of one thread: a
captured CUDA graph reads them anew at each replay.
"""

import contextlib

import numpy as np
import torch
import triton
import triton.language as tl

from minillm.optim import AdamW
from minillm.tree import flatten, leaves, map_leaves
from minillm_kernels.arrays import check_grid, kind_of
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._lists import (
    AddressTables,
    aligned,
    check_contiguous,
    check_one_device,
    chunks_of,
    named_tensors,
)
from minillm_kernels.triton._rows import accumulator, check_type
from minillm_kernels.triton._sums import TL
from minillm_kernels.triton.global_norm import global_norm

__all__ = ["FusedAdamW"]

BLOCK, BLOCKS = 1024, 8  # elements that a program reads at once, and how many times
FIELDS = 7  # of a tensor in the table: the addresses of p, g, m, v and the copy; size, decays?


@triton.jit
def work_out(
    step,
    lr,
    scale,
    hyper,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    WEIGHT_DECAY: tl.constexpr,
    COUNTS: tl.constexpr,
):
    """hyper: rate, floor, shrink and scale, for all tensors. With COUNTS the step goes up first."""
    t = tl.load(step)
    if COUNTS:
        t += 1
        tl.store(step, t)
    rate1 = tl.full((), BETA1, tl.float64)
    rate2 = tl.full((), BETA2, tl.float64)
    power1 = tl.full((), 1.0, tl.float64)  # b1**t, by repeated squaring
    power2 = tl.full((), 1.0, tl.float64)
    for bit in tl.static_range(40):
        taken = (t >> bit) & 1 == 1
        power1 = tl.where(taken, power1 * rate1, power1)
        power2 = tl.where(taken, power2 * rate2, power2)
        rate1 *= rate1
        rate2 *= rate2
    mean = tl.full((), 1 - BETA1, tl.float64) / (1.0 - power1)
    root_mean = tl.sqrt(tl.full((), 1 - BETA2, tl.float64) / (1.0 - power2))
    speed = tl.load(lr).to(tl.float64)
    tl.store(hyper, speed * mean / root_mean)
    tl.store(hyper + 1, tl.full((), EPS, tl.float64) / root_mean)
    tl.store(hyper + 2, 1.0 - speed * tl.full((), WEIGHT_DECAY, tl.float64))
    tl.store(hyper + 3, tl.load(scale).to(tl.float64))


@triton.jit
def update_block(
    p, g, m, v, copy, at, mask, rate, floor, shrink, scale, beta1, beta2, COPIES: tl.constexpr
):
    """m <- b1 m + g;  v <- b2 v + g^2;  p <- shrink p - rate m / (sqrt(v) + floor)"""
    ACC: tl.constexpr = rate.dtype
    gradient = tl.load(g + at, mask=mask).to(ACC) * scale
    moment = tl.load(m + at, mask=mask).to(ACC) * beta1 + gradient
    square = tl.load(v + at, mask=mask).to(ACC) * beta2 + gradient * gradient
    weight = tl.load(p + at, mask=mask).to(ACC) * shrink
    weight -= moment / (tl.sqrt(square) + floor) * rate
    tl.store(p + at, weight.to(p.dtype.element_ty), mask=mask)
    tl.store(m + at, moment.to(m.dtype.element_ty), mask=mask)
    tl.store(v + at, square.to(v.dtype.element_ty), mask=mask)
    if COPIES:
        tl.store(copy + at, weight.to(copy.dtype.element_ty), mask=mask)


@triton.jit
def adamw_chunk(
    table,
    chunks,
    hyper,
    FIELDS: tl.constexpr,
    WEIGHT: tl.constexpr,
    GRADIENT: tl.constexpr,
    COPY: tl.constexpr,
    ALIGNED: tl.constexpr,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Update one chunk of one tensor. WEIGHT, GRADIENT and COPY are types, COPY None for none."""
    program = tl.program_id(0)
    row = table + tl.load(chunks + 2 * program).to(tl.int64) * FIELDS
    start = tl.load(chunks + 2 * program + 1).to(tl.int64) * (BLOCK * BLOCKS)
    COPIES: tl.constexpr = COPY is not None
    p = tl.load(row).to(tl.pointer_type(WEIGHT))
    g = tl.load(row + 1).to(tl.pointer_type(GRADIENT))
    m = tl.load(row + 2).to(tl.pointer_type(WEIGHT))
    v = tl.load(row + 3).to(tl.pointer_type(WEIGHT))
    copy = tl.load(row + 4).to(tl.pointer_type(COPY if COPIES else WEIGHT))
    if ALIGNED:
        p = tl.multiple_of(p, 16)
        g = tl.multiple_of(g, 16)
        m = tl.multiple_of(m, 16)
        v = tl.multiple_of(v, 16)
        copy = tl.multiple_of(copy, 16)
    size = tl.load(row + 5)
    decays = tl.load(row + 6)
    rate, floor = tl.load(hyper).to(ACC), tl.load(hyper + 1).to(ACC)
    shrink = tl.where(decays != 0, tl.load(hyper + 2).to(ACC), 1.0)
    scale = tl.load(hyper + 3).to(ACC)
    beta1, beta2 = tl.full((), BETA1, ACC), tl.full((), BETA2, ACC)
    lanes = tl.arange(0, BLOCK)
    if start + BLOCK * BLOCKS <= size:  # without masks the accesses are 16 bytes wide
        for block in tl.range(BLOCKS):
            at = start + block * BLOCK + lanes
            update_block(
                p, g, m, v, copy, at, None, rate, floor, shrink, scale, beta1, beta2, COPIES
            )
    else:
        for first in tl.range(start, size, BLOCK):
            at = first + lanes
            update_block(
                p, g, m, v, copy, at, at < size, rate, floor, shrink, scale, beta1, beta2, COPIES
            )


class FusedAdamW:
    """`minillm.optim.AdamW` for a nest of arrays on the GPU, in two launches a step.

    Parameters
    ----------
    rule : minillm.optim.AdamW, whose settings are taken
    """

    def __init__(self, rule):
        if type(rule) is not AdamW:
            raise ValueError(f"rule must be a minillm.optim.AdamW, got {type(rule).__name__}")
        self.rule = rule
        self._tables, self._chunks, self._numbers = {}, {}, {}

    global_norm = staticmethod(global_norm)

    def init(self, params, *, on_device=False):
        """The state before the first update, the nest that `minillm.optim.AdamW` makes.

        on_device : bool, count the steps on the GPU, as a captured graph must; the state's "step"
            is then an array of the parameters' library there, otherwise a NumPy one
        """
        state = self.rule.init(params) if _library(params) != "torch" else _torch_state(params)
        if on_device:
            first = next(iter(named_tensors("FusedAdamW.init", params).values()))
            state["step"] = torch.zeros((), dtype=torch.int64, device=first.device)
            if _library(params) == "cupy":
                import cupy

                state["step"] = cupy.from_dlpack(state["step"])
        return state

    def update(self, params, grads, state, lr=None, *, scale=1.0, pool=None, copies=None):
        """Take one step, in place on `params`, `state` and `copies`; `grads` are only read.

        Parameters
        ----------
        params : nest of contiguous arrays, float32 (or float64)
        grads : the same nest; of another floating dtype where one likes, bfloat16 say
        state : what `init(params)` made, or `minillm.optim.AdamW`'s
        lr : float, an array of one number on the GPU, or None for the rule's own
        scale : float, or an array of one number on the GPU; every gradient is multiplied by it
        pool : is for the CPU, and not used
        copies : the same nest in another dtype, or None; gets the new weights, rounded

        Raises
        ------
        ValueError
            naming the leaf that is missing, left over, of another shape or dtype, not contiguous or
            not on the GPU.
        """
        what = "FusedAdamW.update"
        p = named_tensors(what, params, written=True)
        if not p:
            state["step"] += 1
            return
        nests = {"g": grads, "m": state["m"], "v": state["v"]}
        if copies is not None:
            nests["copy"] = copies
        like = flatten(params)
        others = {
            key: named_tensors(what, nest, like=like, written=key != "g")
            for key, nest in nests.items()
        }
        check_type(what, **p, **{f"the gradient of {n}": g for n, g in others["g"].items()})
        check_type(what, **{f"the copy of {n}": c for n, c in others.get("copy", {}).items()})
        check_contiguous(what, p)
        for key in nests.keys() - {"g"}:
            check_contiguous(f"{what}: {key}", others[key])
        for name, tensor in p.items():
            if not tensor.dtype == others["m"][name].dtype == others["v"][name].dtype:
                raise ValueError(f"{what}: the moments of {name} must be {tensor.dtype} as it is")
        others["g"] = {name: g.contiguous() for name, g in others["g"].items()}
        device = next(iter(p.values())).device
        for key, tensors in others.items():
            check_one_device(f"{what}: {key}", tensors, device)
        hyper = torch.empty(4, dtype=torch.float64, device=device)
        on_gpu = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with on_gpu:
            self._work_out(state, self.rule.lr if lr is None else lr, scale, hyper)
            for dtypes, names in _groups(p, others).items():
                self._launch(dtypes, [(p[n], *_of(others, n)) for n in names], hyper)

    def _work_out(self, state, lr, scale, hyper):
        rule, step = self.rule, state["step"]
        counts = kind_of(step) != "numpy"  # a NumPy counter is the host's, also when interpreting
        if counts:
            (step,) = named_tensors("FusedAdamW.update", {"state['step']": step}).values()
        else:
            state["step"] += 1
            step = torch.full((), int(state["step"]), dtype=torch.int64, device=hyper.device)
        work_out[(1,)](
            step,
            self._number("lr", lr, hyper.device),
            self._number("scale", scale, hyper.device),
            hyper,
            BETA1=rule.betas[0],
            BETA2=rule.betas[1],
            EPS=rule.eps,
            WEIGHT_DECAY=rule.weight_decay,
            COUNTS=counts,
            num_warps=1,
        )

    def _number(self, name, value, device):
        """A setting on the GPU. Filling costs no copy from the computer's memory."""
        if isinstance(value, int | float | np.floating):
            if (name, device) not in self._numbers:
                self._numbers[name, device] = torch.empty((), dtype=torch.float64, device=device)
            return self._numbers[name, device].fill_(float(value))
        (number,) = named_tensors("FusedAdamW.update", {name: value}).values()
        if number.numel() != 1 or not number.is_floating_point():
            came = f"{number.dtype} of shape {tuple(number.shape)}"
            raise ValueError(f"FusedAdamW.update: {name} must be one number, got {came}")
        return number

    def _launch(self, dtypes, rows, hyper):
        """One launch for all tensors of these dtypes; rows: (p, g, m, v, copy or None)."""
        device = hyper.device
        sizes = tuple(row[0].numel() for row in rows)
        if self._chunks.get(dtypes, (None,))[0] != (sizes, device):
            cut = chunks_of(sizes, BLOCK * BLOCKS, device)
            tables = AddressTables(FIELDS * len(rows), device)
            self._chunks[dtypes] = (sizes, device), cut
            self._tables[dtypes] = tables
        cut, tensors = self._chunks[dtypes][1], [t for row in rows for t in row if t is not None]
        numbers = []
        for row in rows:
            numbers += [0 if t is None else t.data_ptr() for t in row]
            numbers += [row[0].numel(), int(row[0].ndim >= 2 and self.rule.weight_decay > 0)]
        weight, gradient, copy = dtypes
        check_grid("FusedAdamW.update", (cut.n,))
        adamw_chunk[(cut.n,)](
            self._tables[dtypes].get(tuple(numbers)),
            cut.table,
            hyper,
            FIELDS=FIELDS,
            WEIGHT=TL[weight],
            GRADIENT=TL[gradient],
            COPY=None if copy is None else TL[copy],
            ALIGNED=aligned(tensors),
            BETA1=self.rule.betas[0],
            BETA2=self.rule.betas[1],
            ACC=accumulator(weight),
            BLOCK=BLOCK,
            BLOCKS=BLOCKS,
            num_warps=8,
        )


def _library(params):
    """The library of a nest's first array."""
    return next((kind_of(leaf) for _, leaf in leaves(params)), None)


def _torch_state(params):
    zeros = {slot: map_leaves(torch.zeros_like, params) for slot in AdamW.slots}
    return {"step": np.zeros((), np.int64), **zeros}


def _of(others, name):
    copy = others["copy"][name] if "copy" in others else None
    return others["g"][name], others["m"][name], others["v"][name], copy


def _groups(p, others):
    """{(dtype of the weight, of the gradient, of the copy): names}: a launch each."""
    found = {}
    for name, tensor in p.items():
        g, _, _, copy = _of(others, name)
        if tensor.numel():
            dtypes = tensor.dtype, g.dtype, None if copy is None else copy.dtype
            found.setdefault(dtypes, []).append(name)
    return found


def configurations():
    """What the launchers compile."""
    found = []
    betas = {"BETA1": 0.9, "BETA2": 0.95}
    types = {"table": "*i64", "chunks": "*i32", "hyper": "*fp64"}
    for kind, gradient, copy, arches in (
        ("fp32", tl.float32, None, (75, 80, 90)),
        ("bf16 gradient and copy", tl.bfloat16, tl.bfloat16, (80, 90)),
    ):
        constants = {"WEIGHT": tl.float32, "GRADIENT": gradient, "COPY": copy, "ALIGNED": True}
        constants |= {
            "ACC": tl.float32,
            "FIELDS": FIELDS,
            "BLOCK": BLOCK,
            "BLOCKS": BLOCKS,
            **betas,
        }
        known = {"arches": arches, "expects": ("vector loads",)}
        found.append(Configuration(kind, adamw_chunk, types, constants, 8, **known))
    types = {"step": "*i64", "lr": "*fp64", "scale": "*fp64", "hyper": "*fp64"}
    constants = {"EPS": 1e-8, "WEIGHT_DECAY": 0.1, "COUNTS": True, **betas}
    found.append(Configuration("work_out", work_out, types, constants, 1))
    return found

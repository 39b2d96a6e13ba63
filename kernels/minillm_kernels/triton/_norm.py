"""Launching the norms' kernels: layer norm and RMS norm, alone and with a residual sum."""

import torch
import triton
import triton.language as tl

from minillm_kernels.arrays import check_grid
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._norm_kernels import (
    BACKWARD_COLUMNS,
    FORWARD_COLUMNS,
    norm_backward,
    norm_backward_columns,
    norm_backward_loop,
    norm_forward,
    norm_forward_loop,
    rows_of_tile,
)
from minillm_kernels.triton._rows import (
    accumulator,
    as_rows,
    check_same,
    check_shape,
    check_type,
    column_sums,
    power_of_two,
    processors,
)
from minillm_kernels.triton._sums import sum_over_rows

__all__ = [
    "backward",
    "check",
    "compiled",
    "compiled_in_block",
    "forward",
    "launch_backward",
    "launch_forward",
]

LOOP_COLUMNS, LOOP_WARPS = 4096, 8  # the block in which longer rows are read


def forward(op_name, x, residual, gain, bias, eps):
    """One of the four ops, its arguments checked; see `launch_forward`."""
    check(op_name, x, residual, gain, bias)
    if residual is not None:
        check_same(op_name, ("x", x), residual=residual)
    return launch_forward(op_name, x, residual, gain, bias, eps, x.dtype)


def launch_forward(op_name, x, residual, gain, bias, eps, out_dtype):
    """Launch the forward of one of the four ops.

    Parameters
    ----------
    x : (..., C)
    residual : (..., C), or None where there is no sum; of any dtype
    gain : (C,)
    bias : (C,), or None for RMS norm
    eps : float
    out_dtype : dtype of y

    Returns
    -------
    y, total : (..., C); total is of x's dtype, and x itself where there is no sum
    saved : what `backward` takes
    """
    rows, centred, added = as_rows(x), bias is not None, residual is not None
    n_rows, n_columns = rows.shape
    y = torch.empty_like(rows, dtype=out_dtype)
    total = torch.empty_like(rows) if added else rows
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    mean = torch.empty(n_rows, dtype=exact, device=x.device) if centred else None
    inv_std = torch.empty(n_rows, dtype=exact, device=x.device)
    arrays = {
        "x": rows,
        "residual": as_rows(residual) if added else None,
        "gain": gain.contiguous(),
        "bias": bias.contiguous() if centred else None,
        "y": y,
        "total": total if added else None,
        "mean": mean,
        "inv_std": inv_std,
    }
    constants = {"CENTRED": centred, "ADDED": added, "ACC": accumulator(x.dtype), "EPS": float(eps)}
    columns = power_of_two(n_columns)
    if y.numel() == 0:
        pass
    elif columns <= FORWARD_COLUMNS:

        def grid(arguments):
            return (triton.cdiv(n_rows, rows_of_tile(arguments)),)

        check_grid(op_name, (n_rows,))
        norm_forward[grid](
            **arrays, n_rows=n_rows, n_columns=n_columns, COLUMNS=columns, **constants
        )
    else:
        check_grid(op_name, (n_rows,))
        norm_forward_loop[(n_rows,)](
            **arrays, n_columns=n_columns, COLUMNS=LOOP_COLUMNS, num_warps=LOOP_WARPS, **constants
        )
    return y.view(x.shape), total.view(x.shape), (total, arrays["gain"], mean, inv_std)


def backward(op_name, dy, dtotal, saved, shape=None):
    """The backward of one of the four ops; dy may be None, for zeros of this shape. See
    `launch_backward`."""
    x = saved[0]
    dy = x.new_zeros(shape) if dy is None else dy
    check_same(op_name, ("x", x), dy=dy)
    return launch_backward(op_name, dy, dtotal, saved)[:3]


def launch_backward(op_name, dy, dtotal, saved, rounded=None):
    """Launch the backward of one of the four ops.

    Parameters
    ----------
    dy : (..., C), of any dtype
    dtotal : (..., C) the upstream of the sum, or None where there is none
    saved : what `forward` left
    rounded : (N, C) that dx is written to a second time, in another dtype; or None

    Returns
    -------
    dx : (..., C), of x's dtype
    dgain : (C,)
    dbias : (C,), None for RMS norm
    sums : (C,), the sums of dx's columns, with `rounded`; else None
    """
    x, gain, mean, inv_std = saved
    shape, dy = dy.shape, as_rows(dy)
    n_rows, n_columns = x.shape
    centred, columns = mean is not None, power_of_two(n_columns)
    dx = torch.empty_like(x)
    arrays = {
        "dy": dy,
        "dtotal": None if dtotal is None else as_rows(dtotal),
        "x": x,
        "gain": gain,
        "mean": mean,
        "inv_std": inv_std,
        "dx": dx,
    }
    flags = {"CENTRED": centred, "ACC": accumulator(x.dtype)}
    added = {"ADDED": dtotal is not None}
    copied = rounded is not None
    if dx.numel() == 0:
        zeros = torch.zeros((3, n_columns), dtype=gain.dtype, device=x.device)
        return dx.view(shape), zeros[0], zeros[1] if centred else None, zeros[2]
    # Two programs a multiprocessor: more would hide more latency and write more partial sums.
    n_programs = min(2 * processors(x), n_rows)
    held = columns <= BACKWARD_COLUMNS // (1 + copied)  # a row in registers
    n_parts = 1 + centred + (copied and held)
    parts = torch.empty((n_parts, n_programs, n_columns), dtype=inv_std.dtype, device=x.device)
    sizes = {"n_rows": n_rows, "n_columns": n_columns, "n_programs": n_programs}
    if held:
        norm_backward[(n_programs,)](
            **arrays, **sizes, rounded=rounded, parts=parts, COLUMNS=columns, ROUNDED=copied,
            **flags, **added,
        )  # fmt: skip
    else:
        check_grid(op_name, (n_rows,))
        norm_backward_loop[(n_rows,)](
            **arrays, n_columns=n_columns, COLUMNS=LOOP_COLUMNS, num_warps=LOOP_WARPS,
            **flags, **added,
        )  # fmt: skip
        parts = parts[:, : min(n_programs, 64)].contiguous()
        sizes["n_programs"] = parts.shape[1]
        norm_backward_columns[(triton.cdiv(n_columns, 256), parts.shape[1])](
            dy, x, mean, inv_std, parts, **sizes, ROWS=8, COLUMNS=256, **flags
        )
    dparams = column_sums(parts, gain.dtype)  # (1 to 3, C)
    sums = dparams[-1] if copied else None
    if copied and not held:
        rounded.copy_(dx)
        sums = sum_over_rows(dx)
    return dx.view(shape), dparams[0], dparams[1] if centred else None, sums


def check(op_name, x, residual, gain, bias):
    check_type(op_name, x=x, gain=gain)
    if x.ndim == 0:
        raise ValueError(f"{op_name}: x must have at least one axis, got a scalar")
    check_shape(op_name, "gain", gain, x.shape[-1:])
    if bias is not None:
        check_shape(op_name, "bias", bias, x.shape[-1:])
        check_same(op_name, ("gain", gain), bias=bias)
    if residual is not None:
        check_shape(op_name, "residual", residual, tuple(x.shape))


def compiled(*, centred, added):
    """The configurations of one of the four ops: GPT-2's width, and rows that fit no registers."""
    found = []
    for kind, arches in (("fp16", (75,)), ("bf16", (80, 90))):
        flags = {"CENTRED": centred, "ADDED": added}
        forward_types, backward_types = _types(kind, centred, added)
        for kernel, types in ((norm_forward, forward_types), (norm_backward, backward_types)):
            found.append(_compiled_one(f"{kernel.__name__} {kind}", kernel, types, flags, arches))
    return found


def compiled_in_block(*, centred):
    """The same of a transformer block: rows in float32, what products read and write in bf16."""
    forward_types, backward_types = _types("fp32", centred, True)
    forward_types["y"] = backward_types["dy"] = "*bf16"
    alone = forward_types | {"residual": None, "total": None}
    forward_types["residual"] = "*bf16"
    rounded = backward_types | {"rounded": "*bf16"}
    what = "layer" if centred else "rms"
    return [
        _compiled_one(
            f"{what} {name}", kernel, types, {"CENTRED": centred, "ADDED": added}, (80, 90)
        )
        for name, kernel, types, added in (
            ("norm", norm_forward, alone, False),
            ("norm after a sum", norm_forward, forward_types, True),
            ("norm backward", norm_backward, backward_types, True),
            ("norm backward, rounded too", norm_backward, rounded, True),
        )
    ]


def _compiled_one(name, kernel, types, flags, arches):
    """A configuration of GPT-2's width; types of None are arguments left out."""
    constants = flags | {"ACC": tl.float32, "COLUMNS": 1024}
    constants |= {name: None for name, type_ in types.items() if type_ is None}
    if kernel is norm_forward:
        constants["EPS"] = 1e-5
    else:
        constants["ROUNDED"] = types["rounded"] is not None
    choice = kernel.choices[0]
    return Configuration(
        f"{name} 768",
        kernel,
        {name: type_ for name, type_ in types.items() if type_ is not None},
        constants | choice.constants,
        choice.num_warps,
        arches=arches,
        expects=("vector loads",),
    )


def _types(kind, centred, added):
    """The kernels' arguments with their types; None for those that are left out."""
    data, mean = f"*{kind}", "*fp32" if centred else None
    sizes = {"n_rows": "i32:16", "n_columns": "i32:16"}
    shared = {"x": data, "gain": "*fp32", "mean": mean, "inv_std": "*fp32"}
    second = data if added else None
    bias = "*fp32" if centred else None
    forward_types = {**shared, "residual": second, "bias": bias, "y": data, "total": second}
    backward_types = {**shared, "dy": data, "dtotal": second, "dx": data, "parts": "*fp32"}
    backward_types["rounded"] = None
    return forward_types | sizes, backward_types | sizes | {"n_programs": "i32"}

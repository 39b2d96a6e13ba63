"""Arrays cross to Triton and back without a copy.

The ops see CuPy arrays on a GPU, or NumPy arrays where Triton interprets its kernels on the CPU;
benchmarks and engineers hand in torch tensors. The launchers of kernels see torch tensors alone,
for a torch tensor is what Triton takes a pointer from. `on_tensors` stands between the two.
"""

import functools
import threading
from typing import Any

import numpy as np
import torch

from minillm_kernels.limits import MAX_GRID
from minillm_kernels.memory import OutOfDeviceMemory, allocating
from minillm_kernels.require import interpreted

__all__ = [
    "OutOfDeviceMemory",
    "allocating",
    "check_grid",
    "check_place",
    "give",
    "interpreted",
    "kind_of",
    "on_tensors",
    "take",
]

_INTERPRETER = threading.RLock()


def _forward(forward):
    """Make an op's forward, written for torch tensors, take and return the caller's arrays.

    The forward returns (out, saved) as every op's does. Arrays anywhere in its arguments, nests
    included, come as torch tensors that share the caller's memory.

    Raises
    ------
    ValueError
        when an array lies in the computer's memory and the kernels run on a GPU, or arrays of two
        libraries are mixed.
    OutOfDeviceMemory
        saying what was asked and what is free.
    """

    @functools.wraps(forward)
    def call(*args, **kwargs):
        kind, device = _kind_and_device(forward.__name__, (args, kwargs))
        args = take(args, kind, device)
        kwargs = {name: take(value, kind, device) for name, value in kwargs.items()}
        with allocating(forward.__name__), _on_device(device):
            out, saved = forward(*args, **kwargs)
        return give(out, kind), (kind, device, saved)

    return call


def _backward(backward):
    """The same for a backward: `dout` and the gradients are of the kind that forward was given."""

    @functools.wraps(backward)
    def call(dout, cache):
        kind, device, saved = cache
        dout = take(dout, kind, device, scalars=True)
        with allocating(backward.__name__), _on_device(device):
            grads = backward(dout, saved)
        return give(grads, kind)

    return call


on_tensors: Any = _forward
on_tensors.backward = _backward


def kind_of(array):
    """ "cupy", "numpy" or "torch" for an array of that library, None for anything else."""
    if isinstance(array, torch.Tensor):
        return "torch"
    if isinstance(array, np.ndarray):
        return "numpy"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "__dlpack__"):
        return "cupy"
    return None


def take(value, kind, device, *, scalars=False):
    """Every array in a nest as a torch tensor on `device`, sharing its memory.

    Whole numbers from the computer's memory (positions, say) are sent to the GPU. With `scalars`
    Python's and NumPy's numbers become tensors without axes.
    """
    if isinstance(value, dict):
        return {key: take(child, kind, device, scalars=scalars) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(take(child, kind, device, scalars=scalars) for child in value)
    came = kind_of(value)
    if came is None:
        if scalars and isinstance(value, np.generic | float | int):
            return torch.as_tensor(value, device=device)
        return value
    if came == "torch":
        return value.detach()
    if came == "cupy":
        return _from_cupy(value)
    return _from_numpy(value).to(device)


def give(value, kind):
    """Every tensor in a nest as an array of the caller's kind, sharing its memory."""
    if isinstance(value, dict):
        return {key: give(child, kind) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(give(child, kind) for child in value)
    if not isinstance(value, torch.Tensor) or kind == "torch":
        return value
    if kind == "numpy":
        return value.numpy()[()] if value.ndim == 0 else value.numpy()
    import cupy

    return cupy.from_dlpack(value)


def check_place(op_name, name, tensor):
    """Refuse a tensor in the computer's memory where the kernels run on a GPU, or the reverse."""
    if tensor.is_cuda == interpreted():
        where = f"on {tensor.device}" if tensor.is_cuda else "in the computer's memory"
        runs = "on the CPU, by Triton's interpreter" if interpreted() else "on a GPU"
        raise ValueError(f"{op_name}: {name} lies {where}, but the triton kernels run {runs}")


def check_grid(op_name, grid):
    """Refuse a launch of more blocks than CUDA allows along an axis.

    Raises
    ------
    ValueError
        naming the axis, the number of blocks and the limit.
    """
    for axis, (blocks, limit) in enumerate(zip(grid, MAX_GRID, strict=False)):
        if blocks > limit:
            raise ValueError(
                f"{op_name}: needs {blocks} blocks along axis {axis} of the grid, "
                f"and CUDA allows {limit}: split the batch"
            )


def _kind_and_device(op_name, arguments):
    """The library of a call's arrays, and the device that its kernels run on."""
    arrays = list(_arrays(arguments))
    kinds = {kind_of(a) for a in arrays if not _is_host_integers(a)}
    kinds = kinds or {kind_of(a) for a in arrays} or {"torch"}
    if not interpreted() and "numpy" in kinds:
        raise ValueError(
            f"{op_name}: got a NumPy array, in the computer's memory, but the triton kernels run "
            "on a GPU: send it there with cupy.asarray(array)"
        )
    if len(kinds) > 1:
        raise ValueError(f"{op_name}: arrays of {' and '.join(sorted(kinds))} in one call")
    (kind,) = kinds
    if kind == "torch":
        for tensor in arrays:
            if not _is_host_integers(tensor):
                check_place(op_name, "a tensor", tensor)
        places = {t.device for t in arrays if not _is_host_integers(t)}
        if len(places) > 1:
            raise ValueError(f"{op_name}: tensors on {sorted(map(str, places))} in one call")
        return kind, next(iter(places), torch.device("cpu"))
    if kind == "cupy":
        numbers = {a.device.id for a in arrays if kind_of(a) == "cupy"}
        if len(numbers) > 1:
            raise ValueError(f"{op_name}: arrays on GPUs {sorted(numbers)} in one call")
        return kind, torch.device("cuda", numbers.pop())
    return kind, torch.device("cpu")


def _arrays(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for child in value:
            yield from _arrays(child)
    elif kind_of(value) is not None:
        yield value


def _is_host_integers(array):
    return kind_of(array) == "numpy" and array.dtype.kind in "iu"


def _from_numpy(array):
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch's unsigned types know few operations
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has neither; only the interpreter comes here
    return torch.from_numpy(np.asarray(array))


def _from_cupy(array):
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    if array.dtype == bool:
        return torch.from_dlpack(array.view(np.uint8)).view(torch.bool)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_dlpack(array)


def _on_device(device):
    """Triton launches on torch's current device; its interpreter knows one thread at a time."""
    return torch.cuda.device(device) if device.type == "cuda" else _INTERPRETER

"""Many tensors in one launch: their addresses in a table on the GPU, their elements in chunks.

A program takes one chunk: it looks up which tensor that is a part of, and the tensor's addresses.
The gradients lie elsewhere after each step, so that the table is sent again when an address has
changed, 40 bytes a tensor. Inside a captured CUDA graph addresses do not change; the copy from
pinned memory is then part of the graph, and that piece of memory is never used again.
"""

import dataclasses

import numpy as np
import torch

from minillm.errors import UserError
from minillm.optim._optimizer import check_match
from minillm.tree import flatten
from minillm_kernels.arrays import check_place, interpreted, kind_of, take

__all__ = [
    "AddressTables",
    "Chunks",
    "aligned",
    "check_contiguous",
    "check_one_device",
    "chunks_of",
    "named_tensors",
]

SLOTS = 8  # pinned tables; a step's copy is long done when its turn comes again


def named_tensors(what, nest, like=None, *, written=False):
    """A nest of CuPy, NumPy (interpreter) or torch arrays as {name: tensor}, sharing memory.

    Parameters
    ----------
    what : str, for messages
    nest : of arrays
    like : {name: tensor} that the nest must match in names and shapes, or None
    written : bool, the arrays are written in place: their own memory is wanted, no copy of it

    Raises
    ------
    ValueError
        for an array that is none, lies in the wrong memory or on another GPU than the first, does
        not match, or cannot be written in place.
    """
    named = flatten(nest)
    if like is not None:
        check_match(like, named)
    found = {}
    for name, array in named.items():
        kind = kind_of(array)
        if kind is None or (kind == "numpy" and not interpreted()):
            came = "a NumPy array, in the computer's memory" if kind else type(array).__name__
            raise ValueError(f"{what}: {name} must be an array on the GPU, got {came}")
        found[name] = take(array, kind, torch.device("cpu"))
        check_place(what, name, found[name])
        if written and found[name].numel() and found[name].data_ptr() != _address(array, kind):
            raise ValueError(
                f"{what}: {name} must be writable and contiguous, got strides {array.strides}"
            )
    check_one_device(what, found)
    return found


def check_one_device(what, tensors, device=None):
    """Refuse tensors on several devices; `device` is that of the first unless it is given."""
    for name, tensor in tensors.items():
        device = device or tensor.device
        if tensor.device != device:
            raise ValueError(f"{what}: {name} lies on {tensor.device}, the first array on {device}")


def _address(array, kind):
    """Where an array of one of the three libraries begins."""
    if kind == "torch":
        return array.data_ptr()
    return array.ctypes.data if kind == "numpy" else array.data.ptr


def check_contiguous(what, tensors):
    """Refuse a tensor that is written in place and whose memory has gaps or another order."""
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            strides, shape = tensor.stride(), tuple(tensor.shape)
            raise ValueError(
                f"{what}: {name} must be contiguous, got strides {strides} for shape {shape}"
            )


@dataclasses.dataclass
class Chunks:
    """Which part of which tensor a program takes: (number of tensor, number of chunk) int32."""

    table: torch.Tensor  # (n, 2)
    n: int


def chunks_of(sizes, chunk, device):
    """Cut tensors of these sizes into chunks of `chunk` elements, the last one shorter."""
    counts = [-(-size // chunk) for size in sizes]
    which = np.repeat(np.arange(len(sizes)), counts)
    number = np.concatenate([np.arange(0), *(np.arange(count) for count in counts)])
    table = np.stack([which, number], axis=1).astype(np.int32)
    return Chunks(torch.from_numpy(np.ascontiguousarray(table)).to(device), len(table))


def aligned(tensors):
    """Whether every tensor begins at a multiple of 16 bytes, as freshly allocated ones do."""
    return all(tensor.data_ptr() % 16 == 0 for tensor in tensors)


class AddressTables:
    """Tables of int64 on the device, sent when their contents change.

    Parameters
    ----------
    length : int, numbers in a table
    device : torch.device
    """

    def __init__(self, length, device):
        self.length, self.device = length, device
        self._sent = {}  # contents -> tensor on the device
        self._free, self._captured = [], []
        if device.type == "cuda":
            self._free = [
                (torch.empty(length, dtype=torch.int64, pin_memory=True), torch.cuda.Event())
                for _ in range(SLOTS)
            ]

    def get(self, numbers):
        """The table with these numbers, a tuple of ints.

        Raises
        ------
        UserError
            when more graphs were captured than there are pinned tables.
        """
        if numbers in self._sent:
            table = self._sent[numbers]
            if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                self._captured.append(table)  # the graph reads it when another one was sent since
            return table
        host = torch.tensor(numbers, dtype=torch.int64)
        if self.device.type != "cuda":
            self._sent = {numbers: host}  # the oldest goes
            return host
        table = torch.empty(self.length, dtype=torch.int64, device=self.device)
        if torch.cuda.is_current_stream_capturing():
            if not self._free:
                raise UserError(f"the optimizer was captured in {SLOTS} graphs already: make anew")
            pinned, _ = self._free.pop()  # the graph reads it at every replay
            pinned.copy_(host)
            table.copy_(pinned, non_blocking=True)
            self._captured.append((pinned, table))
            return table
        if not self._free:
            return table.copy_(host)
        pinned, copied = self._free.pop(0)
        copied.synchronize()
        pinned.copy_(host)
        table.copy_(pinned, non_blocking=True)
        copied.record()
        self._free.append((pinned, copied))
        self._sent = {numbers: table}
        return table

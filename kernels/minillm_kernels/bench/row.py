"""What a row of the table is."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Case", "Place", "Row", "carried", "random_tensor"]

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass
class Case:
    """The same work, done by several contestants on the same inputs.

    Attributes
    ----------
    name : str, the size, as the table's reader would say it
    inputs : list of tuples; a contestant is called as function(*inputs[i]), the i in turn, so that
        no call finds its inputs in the cache where there are several
    ours, peers : {name: function}; each returns a tensor or a tuple of them
    amount : float, what a call does: FLOP, bytes or tokens
    tolerance : float, how far ours may be from the first peer, as ||ours - peer|| / ||peer||;
        None where results are not comparable (a training step)
    graph : bool, False for contestants that a CUDA graph cannot capture
    flop : float or None, where `amount` counts something else and the row speaks of the peak
    """

    name: str
    inputs: list[tuple]
    ours: dict[str, Callable]
    peers: dict[str, Callable]
    amount: float
    tolerance: float | None = 0.02
    graph: bool = True
    flop: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    key : str, by which results are found again
    work : str, for the table
    unit : "TFLOP/s", "GB/s" or "tokens/s"
    cases : function of a Place, yields Case after Case
    must, aim : {what: figure}; what is "peer" (our speed over the best peer's), "peer NAME", "copy"
        (the share of the measured copy bandwidth), "peak" (of the chip's bf16 FLOP/s) or the name
        of a rung (its speed over the best peer's); several cases count by their geometric mean
    ladder : str, the ladder whose rungs are the contestants, or None
    rungs : the names of those of its rungs
    share_of : "peer" or "copy", what a rung's share in its first case is a share of
    """

    key: str
    work: str
    unit: str
    cases: Callable
    must: dict[str, float] = field(default_factory=dict)
    aim: dict[str, float] = field(default_factory=dict)
    ladder: str | None = None
    rungs: tuple[str, ...] = ()
    share_of: str = "peer"


@dataclass
class Place:
    """A GPU, or a CPU where the same rows run small and untimed ("rehearsal").

    copy_rate : bytes a second that a large copy moves, read and written; None in a rehearsal
    """

    device: str
    copy_rate: float | None = None
    gemm_rate: float | None = None
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def real(self):
        return self.device != "cpu"

    def size(self, real, small):
        return real if self.real else small

    def dtype(self, name):
        """The dtype of that name; in a rehearsal float32, for the interpreter has no bf16."""
        return TYPES[name] if self.real else torch.float32

    def tensor(self, *shape, dtype="bf16", scale=1.0):
        """Normal values, drawn anew at every call."""
        self.seed += 1
        return random_tensor(shape, self.dtype(dtype), self.device, self.seed, scale)

    def integers(self, high, *shape):
        self.seed += 1
        generator = torch.Generator(self.device).manual_seed(self.seed)
        return torch.randint(high, shape, generator=generator, device=self.device)

    def copies(self, nbytes):
        """How many sets of inputs of that many bytes are several times the second-level cache."""
        if not self.real:
            return 1
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        return max(1, min(8, math.ceil(4 * cache / max(1, nbytes))))

    def compiled(self, function):
        """torch.compile's version; in a rehearsal the function itself."""
        return torch.compile(function, dynamic=False) if self.real else function

    @staticmethod
    @contextlib.contextmanager
    def repeatable_backward():
        """Inside, a compiled function's backward leaves what its forward saved for another run."""
        from torch._functorch import config

        with config.patch(donated_buffer=False):
            yield


def random_tensor(shape, dtype, device, seed, scale=1.0):
    generator = torch.Generator(device).manual_seed(seed)
    values = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    return values.mul_(scale).to(dtype)


def carried(tensor):
    """A tensor as the array of the same memory that ops and rungs take: CuPy's or NumPy's."""
    if not tensor.is_cuda:
        return tensor.numpy()
    import cupy

    return cupy.from_dlpack(tensor)

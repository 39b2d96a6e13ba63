"""Compiling, before anything is measured, all that the rows will ask Triton for, on all cores.

One after another the rows' kernels in all their configurations take minutes. Here each row's own
side runs once on tensors without memory, which notes what it asks for; then as many processes as
there are cores compile it into Triton's cache on disk, where the rows find it. What goes wrong here
costs time alone: the rows compile what they do not find.

    python -m minillm_kernels.bench.warm [TEXT]
"""

import contextlib
import functools
import os
import sys
import time
from unittest import mock

import torch

from minillm.ops import _op
from minillm.ops._state import Registry
from minillm.tree import map_leaves
from minillm_kernels.bench import training
from minillm_kernels.bench.row import Place
from minillm_kernels.bench.run import select
from minillm_kernels.device import Simulated
from minillm_kernels.triton._device import arch as arch_here
from minillm_kernels.triton._dry import dry_gpu

__all__ = ["asked_by_rows", "warm"]


class Without(Place):
    """A GPU whose tensors have no memory."""

    def tensor(self, *shape, dtype="bf16", scale=1.0):
        return torch.empty(shape, dtype=self.dtype(dtype), device=self.device)

    def integers(self, high, *shape):
        return torch.empty(shape, dtype=torch.int64, device=self.device)

    def copies(self, nbytes):
        return 1

    def compiled(self, function):
        return function


class Elsewhere(Simulated):
    """Where the triton backend's arrays live, without memory."""

    @staticmethod
    def put(nest):
        return map_leaves(
            lambda leaf: torch.empty(leaf.shape, dtype=torch.float32, device="cuda"), nest
        )


def asked_by_rows(rows, arch, *, report=print):
    """What these rows' own sides ask Triton to compile for sm_`arch`.

    Returns
    -------
    asked : list of Asked
    """
    place = Without("cuda", 1.0, 1.0)
    with _no_numpy(), dry_gpu(arch, compiles=False) as dry:
        for row in rows:
            if row.ladder is not None:  # CUDA C
                continue
            try:
                for case in row.cases(place):
                    for function in case.ours.values():
                        function(*case.inputs[0])
            except Exception as error:
                report(f"  {row.key}: not compiled ahead ({type(error).__name__}: {error})"[:200])
        return dry.asked


@contextlib.contextmanager
def _no_numpy():
    """Inside, models take torch tensors: an op's check of NumPy's dtypes lets them pass."""
    import minillm_kernels.triton  # noqa: F401 (registers the pairs)

    with (
        mock.patch.dict(Registry.devices, {"triton": Elsewhere()}),
        mock.patch.object(Registry, "loaded", Registry.loaded | {"triton"}),
        mock.patch.object(_op, "_check_floats", lambda op, label, value, dtype: dtype),
        mock.patch.object(_op, "_check_dout", lambda op, label, dout, out: dout),
        mock.patch.object(training, "carried", lambda tensor: tensor),
    ):
        yield


def warm(match="", *, arch=None, processes=None, report=print):
    """Compile in as many processes as there are cores, where no number is given.

    Returns
    -------
    n : int, how many kernels were compiled
    """
    began = time.perf_counter()
    asked = asked_by_rows(select(match), arch or arch_here(), report=report)
    noted = time.perf_counter() - began
    for number in _failed(asked, processes or os.cpu_count()):
        report(f"  {asked[number].kernel.fn.__name__} (number {number}) does not compile")
    took = time.perf_counter() - began
    report(f"compiled {len(asked)} kernels in {took:.0f} s, of which {noted:.0f} s to list them")
    return len(asked)


def _failed(asked, processes):
    """Compile each in a process forked for it, for the compiler may abort; the numbers that did."""
    running, failed = {}, []
    for number, one in enumerate(asked):
        if len(running) == processes:
            failed += _finished(running)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                one.compile()
                code = 0
            except Exception as error:
                print(f"  {type(error).__name__}: {error}"[:200], flush=True)
            finally:
                os._exit(code)  # nothing of this process's is to be cleaned up
        running[child] = number
    while running:
        failed += _finished(running)
    return sorted(failed)


def _finished(running):
    """Wait for one of the processes; [its number] if it failed."""
    child, status = os.wait()
    number = running.pop(child)
    return [number] if status else []


if __name__ == "__main__":
    warm(*sys.argv[1:2], report=functools.partial(print, flush=True))

"""How a call on a GPU is timed: CUDA graphs replayed between two events, sides in turn, medians.

A graph leaves Python and the launches out of the time. Sides take turns, so that a clock that
rises or falls during the measurement favours none.

Everything runs on one stream of its own, from the making of the inputs on: autograd runs a backward
on the stream of its forward, and the default stream cannot be captured.
"""

import contextlib
import statistics

import torch

from minillm_kernels.sharing import on_stream, share_memory

__all__ = ["copy_rate", "gemm_rate", "prepare", "time_sides", "working_stream"]

ROUNDS = 7
SPAN = 0.03  # seconds that a round of one side lasts at least


class Prepared:
    """One side, ready to run all its input sets once: a captured graph, or plain calls."""

    def __init__(self, function, inputs, graph):
        self.calls = len(inputs)

        def run():
            for given in inputs:
                function(*given)

        self.run = run
        for _ in range(3):  # compiles, chooses configurations, fills the allocator's pool
            run()
        torch.cuda.synchronize()
        if graph:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                run()
            self.run = self.graph.replay

    def seconds(self, repeats):
        """The mean time of a call over so many repeats, between two events."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            self.run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / (repeats * self.calls)


@contextlib.contextmanager
def working_stream():
    """Inside, PyTorch, Triton and CuPy work on one stream, which a graph can capture, and CuPy
    takes its memory from PyTorch's pool."""
    import cupy

    share_memory(cupy, torch)
    with on_stream(cupy, torch, torch.cuda.Stream()):
        yield
        torch.cuda.synchronize()


def prepare(function, inputs, *, graph=True):
    """Warm a side up and capture it."""
    return Prepared(function, inputs, graph)


def time_sides(sides):
    """Median, least and largest seconds a call of each side.

    Parameters
    ----------
    sides : {name: Prepared}

    Returns
    -------
    {name: {"median": float, "least": float, "most": float}}
    """
    repeats = {}
    for name, side in sides.items():
        once = side.seconds(2)
        repeats[name] = max(1, min(2000, round(SPAN / max(1e-7, once * side.calls))))
    times = {name: [] for name in sides}
    for number in range(ROUNDS):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            times[name].append(sides[name].seconds(repeats[name]))
    return {
        name: {"median": statistics.median(all_), "least": min(all_), "most": max(all_)}
        for name, all_ in times.items()
    }


def copy_rate(nbytes=2**31):
    """Bytes a second of a large copy on the GPU, those read and those written together."""
    source = torch.empty(nbytes, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    side = prepare(target.copy_, [(source,)])
    return 2 * nbytes / time_sides({"copy": side})["copy"]["median"]


def gemm_rate(size=8192):
    """FLOP a second of a large bf16 product by the vendor's library, on random values."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    side = prepare(torch.matmul, [(a, b)])
    return 2 * size**3 / time_sides({"gemm": side})["gemm"]["median"]

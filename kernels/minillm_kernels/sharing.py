"""CuPy and PyTorch in one process: one pool of GPU memory, one stream.

Both keep what was freed for themselves, so that each would hold what the other lacks; and CuPy's
pool asks the driver for memory when it is empty, which is forbidden while a CUDA graph is captured
(CUDA C++ Programming Guide, "Prohibited and Unhandled Operations"). So CuPy allocates from the pool
of PyTorch, which keeps a part aside for each graph.
"""

import contextlib

__all__ = ["on_stream", "share_memory"]


def share_memory(cupy, torch):
    """Let CuPy allocate from PyTorch's pool from now on, in every thread."""

    def allocate(nbytes, device):
        stream = cupy.cuda.get_current_stream(device).ptr
        return torch.cuda.caching_allocator_alloc(nbytes, device, stream)

    def free(address, device):
        torch.cuda.caching_allocator_delete(address)

    cupy.cuda.set_allocator(cupy.cuda.PythonFunctionAllocator(allocate, free).malloc)


class _Protocol:
    """What CuPy asks of another library's stream (cuda.core's `__cuda_stream__`)."""

    def __init__(self, address):
        self.address = address

    def __cuda_stream__(self):
        return 0, self.address  # version of the protocol, cudaStream_t


@contextlib.contextmanager
def on_stream(cupy, torch, stream):
    """Inside, PyTorch, Triton and CuPy all work on `stream`, a torch.cuda.Stream."""
    with torch.cuda.stream(stream), cupy.cuda.Stream.from_external(_Protocol(stream.cuda_stream)):
        yield

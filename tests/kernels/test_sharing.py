"""CuPy takes PyTorch's memory and stream: which calls are made, with fakes for both libraries."""

import contextlib
import types

import cupy
import pytest

from minillm_kernels.sharing import on_stream, share_memory


class Torch:
    """torch.cuda as far as it is used here; it notes what it is asked."""

    def __init__(self):
        self.calls, self.current = [], []
        self.cuda = self

    def caching_allocator_alloc(self, size, device, stream):
        self.calls.append(("allocate", size, device, stream))
        return 4096

    def caching_allocator_delete(self, address):
        self.calls.append(("free", address))

    @contextlib.contextmanager
    def stream(self, stream):
        self.current.append(stream)
        yield
        self.current.pop()


@pytest.fixture
def fakes():
    """CuPy's own allocator class, for it calls ours; what asks the driver for a device is faked."""
    chosen, asked = [], []

    def current(device):
        asked.append(device)
        return types.SimpleNamespace(ptr=7)

    cuda = types.SimpleNamespace(
        PythonFunctionAllocator=lambda *both: types.SimpleNamespace(malloc=both),
        get_current_stream=current,
        set_allocator=chosen.append,
        Stream=cupy.cuda.Stream,
    )
    return types.SimpleNamespace(cuda=cuda), Torch(), chosen, asked


def test_cupys_memory_is_torchs_on_cupys_stream(fakes):
    fake_cupy, torch, chosen, asked = fakes
    share_memory(fake_cupy, torch)
    ((allocate, free),) = chosen
    assert allocate(100, 1) == 4096
    free(4096, 1)
    assert torch.calls == [("allocate", 100, 1, 7), ("free", 4096)]
    assert asked == [1]


def test_the_allocator_is_one_that_cupy_takes():
    allocator = cupy.cuda.PythonFunctionAllocator(lambda size, device: 0, lambda address, device: 0)
    assert callable(allocator.malloc)


def test_cupys_stream_is_torchs():
    """`from_external` is CuPy's own: it reads the protocol and needs no driver."""
    seen = []

    class Stream(cupy.cuda.Stream):
        def __enter__(self):
            seen.append(self.ptr)

        def __exit__(self, *error):
            seen.append("left")

    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(Stream=Stream))
    torch, stream = Torch(), types.SimpleNamespace(cuda_stream=12345)
    with on_stream(fake, torch, stream):
        assert torch.current == [stream]
        assert seen == [12345]
    assert torch.current == []
    assert seen == [12345, "left"]

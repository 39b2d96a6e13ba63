"""A GPU that is not there: launchers run to their end, kernels compile, and nothing is computed.

PyTorch's FakeTensor has a shape, a dtype and a device, and no memory; here it gets an address too.
What a launcher asks Triton for is then what it would ask on such a GPU, specialised on alignment
and divisibility as there. A number read back from a FakeTensor is an error, so that what runs here
reads nothing back.

    with dry_gpu(90) as dry:
        x = torch.empty(4096, 4096, dtype=torch.bfloat16, device="cuda")
        matmul(x, x)
    dry.launches      # [Launch("persistent", (132, 1, 1), ...), ...]

Two uses: tests see that what is launched compiles, fits and keeps its registers, and the benchmark
compiles all of it in parallel before it measures (`compiles=False` notes and compiles nothing).
"""

import contextlib
import dataclasses
import sys
import types
from unittest import mock

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import _allocation

from minillm_kernels.limits import MAX_GRID
from minillm_kernels.triton import _device
from minillm_kernels.triton._compile import SHARED_LIMIT, _resources
from minillm_kernels.triton._tune import Tuned

__all__ = ["Asked", "Dry", "Launch", "dry_gpu"]

MULTIPROCESSORS = {75: 40, 80: 108, 90: 132}  # of a T4, an A100 and an H100
PAGE = 512  # what PyTorch's allocator rounds addresses to
STREAM = 7


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch of a compiled kernel; `spills` in bytes of stack."""

    name: str
    grid: tuple
    warps: int
    shared: int
    registers: int
    spills: int


@dataclasses.dataclass(frozen=True)
class Asked:
    """What Triton was asked to compile."""

    kernel: object
    signature: dict
    constants: dict
    attributes: dict
    options: object
    target: object

    def compile(self):
        """Compile it into Triton's cache on disk, with the launcher's C code if it has any."""
        source = triton.compiler.ASTSource(
            self.kernel, self.signature, self.constants, self.attributes
        )
        made = triton.compile(source, target=self.target, options=dict(self.options.__dict__))
        with contextlib.suppress(Exception):  # needs a compiler of C, and finds it again later
            from triton.backends.nvidia.driver import CudaLauncher

            CudaLauncher(source, made.metadata)
        return made


class Dry:
    """What was launched, and what was to be compiled."""

    def __init__(self, arch):
        self.arch, self.launches, self._asked = arch, [], {}

    @property
    def asked(self):
        return list(self._asked.values())

    def note(self, kernel, key, asked):
        self._asked.setdefault((kernel.fn.__module__, kernel.fn.__name__, key), asked)


class Driver(DriverBase):
    """What Triton's runtime asks of a GPU."""

    def __init__(self, dry):
        self.dry, self.utils = dry, self
        self.launcher_cls = lambda source, metadata: Launcher(dry, metadata)

    @classmethod
    def is_active(cls):
        return True

    def map_python_to_cpp_type(self, ty):
        return ty

    def get_benchmarker(self):
        return _instead_of_measuring

    def get_current_target(self):
        return GPUTarget("cuda", self.dry.arch, 32)

    def get_active_torch_device(self):
        return torch.device("cuda", 0)

    def get_device_interface(self):
        return torch.cuda

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return STREAM

    def get_device_properties(self, device):
        return {
            "max_shared_mem": SHARED_LIMIT[self.dry.arch],
            "multiprocessor_count": MULTIPROCESSORS[self.dry.arch],
        }

    def load_binary(self, name, kernel, shared, device):
        registers, spills = _resources(kernel)
        return "module", (registers, spills), registers, spills, 1024

    def unload_module(self, module):
        pass


class Launcher:
    """Notes a launch, after what the real one does before it."""

    def __init__(self, dry, metadata):
        self.dry, self.metadata = dry, metadata

    def __call__(self, x, y, z, stream, function, *rest):
        metadata, grid = self.metadata, (x, y, z)
        if metadata.global_scratch_size:
            size = x * y * z * metadata.global_scratch_size
            scratch = _allocation._allocator.get()(size, metadata.global_scratch_align, stream)
            if scratch.data_ptr() % metadata.global_scratch_align:
                raise ValueError(f"{metadata.name}: scratch memory is not aligned")
        if any(not 1 <= n <= most for n, most in zip(grid, MAX_GRID, strict=True)):
            raise ValueError(f"{metadata.name}: a grid of {grid}")
        made = Launch(metadata.name, grid, metadata.num_warps, metadata.shared, *function)
        self.dry.launches.append(made)


@contextlib.contextmanager
def dry_gpu(arch=90, *, compiles=True, measures=True):
    """Inside, tensors made with device="cuda" are on a GPU of this architecture that is not there.

    Parameters
    ----------
    arch : 75, 80 or 90
    compiles : bool; False notes what is to be compiled, and launches nothing
    measures : bool, take each configuration of a tuned kernel once, as choosing one does; otherwise
        the first alone

    Returns
    -------
    dry : Dry
    """
    dry, before = Dry(arch), triton.runtime.driver._active
    with contextlib.ExitStack() as stack:
        for owner, name, value in _instead(dry, compiles, measures):
            stack.enter_context(mock.patch.object(owner, name, value, create=True))
        stack.callback(triton.runtime.driver.set_active, before)
        stack.callback(_forget)
        _forget()
        triton.runtime.driver.set_active(Driver(dry))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield dry


def _instead(dry, compiles, measures):
    """(owner, name, what takes its place) of all that asks for a GPU."""
    properties = types.SimpleNamespace(
        name="no GPU",
        major=dry.arch // 10,
        minor=dry.arch % 10,
        multi_processor_count=MULTIPROCESSORS[dry.arch],
        L2_cache_size=50 * 2**20,
    )
    cuda = {
        "current_device": lambda: 0,
        "get_device_capability": lambda *device: divmod(dry.arch, 10),
        "get_device_properties": lambda *device: properties,
        "is_current_stream_capturing": lambda: False,
        "device": Nothing,
        "Event": Nothing,
    }
    yield from ((torch.cuda, name, value) for name, value in cuda.items())
    addresses = Addresses()
    tensor = {
        "data_ptr": lambda self: addresses.of(self),
        "__array_function__": _array_function,
        # a PyTorch without CUDA can do all but these on tensors that claim to be there
        "__getitem__": _get,
        "__setitem__": lambda self, index, value: None,
        "copy_": lambda self, other, non_blocking=False: self,
        "requires_grad_": lambda self, wanted=True: self,
    }
    yield from ((FakeTensor, name, value) for name, value in tensor.items())
    empty = torch.empty
    yield torch, "empty", lambda *size, pin_memory=False, **options: empty(*size, **options)
    yield triton.testing, "do_bench", _instead_of_measuring
    if not measures:
        yield Tuned, "_fastest", lambda self, choices, grid, arguments: choices[0]
    if not compiles:

        def note(self, key, signature, device, constants, options, attributes, warmup):
            target = GPUTarget("cuda", dry.arch, 32)
            asked = Asked(self, dict(signature), dict(constants), dict(attributes), options, target)
            dry.note(self, key, asked)

        yield triton.runtime.JITFunction, "_do_compile", note


class Addresses:
    """An address for each FakeTensor, as PyTorch's allocator would give it."""

    def __init__(self):
        self.next, self.starts = 2**40, {}

    def of(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self.starts:  # the storage is kept, so that no other takes its key
            self.starts[storage._cdata] = self.next, storage
            self.next += -(-max(storage.nbytes(), 1) // PAGE) * PAGE
        start, _ = self.starts[storage._cdata]
        return start + tensor.storage_offset() * tensor.element_size()


class Nothing:
    """A device, a stream or an event that does nothing."""

    cuda_stream = STREAM

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def record(self, *args):
        pass

    synchronize = record


def _instead_of_measuring(function, **options):
    function()
    return 1.0


def _array_function(self, function, types, args, kwargs):
    """NumPy's functions that make arrays, where the models call them with like=."""
    return getattr(torch, function.__name__)(*args, device="cuda", **kwargs)


def _get(self, index):
    """tensor[index] of numbers, slices, None and Ellipsis."""
    index = index if isinstance(index, tuple) else (index,)
    if any(part is Ellipsis for part in index):
        at = next(i for i, part in enumerate(index) if part is Ellipsis)
        taken = sum(part is not None for part in index) - 1
        index = index[:at] + (slice(None),) * (self.ndim - taken) + index[at + 1 :]
    out, axis = self, 0
    for part in index:
        if part is None:
            out, axis = out.unsqueeze(axis), axis + 1
        elif isinstance(part, slice):
            begin, end, step = part.indices(out.shape[axis])
            out, axis = torch.ops.aten.slice(out, axis, begin, end, step), axis + 1
        else:
            out = torch.select(out, axis, int(part))
    return out


def _forget():
    """What kernels and launchers remember of the GPU."""
    _device._arch.cache_clear()
    _device._multiprocessors.cache_clear()
    for name, module in list(sys.modules.items()):
        if not name.startswith("minillm_kernels.triton"):
            continue
        for value in list(vars(module).values()):
            if isinstance(value, Tuned):
                value.best.clear()
            kernel = value.kernel if isinstance(value, Tuned) else value
            if isinstance(kernel, triton.runtime.JITFunction):
                kernel.device_caches.clear()

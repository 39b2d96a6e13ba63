"""The rungs of the ladders: what each needs, and how its kernels come to run.

A rung is one .cu file. On CuPy arrays CuPy compiles it for the GPU at hand (by NVRTC); on NumPy
arrays the emulator runs the same file on the CPU. Either way `load(rung, carrier=x).kernel("name")`
is called as a `cupy.RawKernel` is: grid, block, arguments, shared memory.

NVRTC knows no header of the C library (so no <cuda.h>) and no INFINITY: write
`__int_as_float(0x7f800000)`. Only what is bound to one generation (sm_90a) is compiled by nvcc.
"""

import contextlib
import functools
import importlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from minillm.errors import UserError
from minillm_kernels.cuda.compiler import compile_cubin
from minillm_kernels.limits import MAX_GRID

__all__ = [
    "LADDERS",
    "SINGLE",
    "Loaded",
    "Rung",
    "check_array",
    "check_capability",
    "check_grid",
    "every_rung",
    "load",
]

NONE = MappingProxyType({})
MAX_THREADS = 1024
HEADERS = "pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl"
PLAIN_SHARED = 48 * 1024  # bytes of shared memory that a block may ask for without a word first


@dataclass(frozen=True)
class Rung:
    """One step of a ladder: a .cu file and what is known of it.

    Attributes
    ----------
    path : of the file, `<ladder>/<NN>_<name>.cu`
    kernels : the names of its `extern "C" __global__` functions
    arches : what it can run on; the emulator apart
    emulated : False where it uses what the emulator has not (inline PTX, cp.async, TMA, wgmma)
    dtypes : {dtype's name: {macro: value}}, what to define to compile it for a dtype
    dtype_arches : {dtype's name: arches} where a dtype runs on fewer of them
    no_spills : whether every build is to keep all in registers
    expects : SASS instructions that must be in the code of every build, such as "HGMMA"
    """

    path: Path
    kernels: tuple[str, ...]
    arches: tuple[str, ...] = ("sm_75", "sm_80", "sm_90")
    emulated: bool = True
    dtypes: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"float32": {}})
    dtype_arches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    no_spills: bool = True
    expects: tuple[str, ...] = ()

    @property
    def ladder(self):
        return self.path.parent.name

    @property
    def name(self):
        """As the file is named, number and all: "03_shared_tile"."""
        return self.path.stem

    @property
    def number(self):
        return int(self.name.split("_")[0])

    def __hash__(self):
        return hash(self.path)

    def __str__(self):
        return f"{self.ladder} {self.name}"

    def builds(self):
        """Every (dtype, macros, arch) that this rung can be compiled for."""
        for dtype, macros in self.dtypes.items():
            for arch in self.dtype_arches.get(dtype, self.arches):
                yield dtype, dict(macros), arch

    @functools.cached_property
    def header(self):
        """The comment at the file's top, without its slashes, as a list of lines."""
        lines = []
        for line in self.path.read_text().splitlines():
            if not line.startswith("//"):
                break
            lines.append(line[2:].removeprefix(" "))
        return lines

    @property
    def summary(self):
        """What it computes, from the header's first line."""
        return re.sub(r"^\S+\.cu\s*", "", self.header[0])

    @property
    def share(self):
        """(of what, figure) from the header's line `Share of …: …`; as it stands there."""
        return self._line("Share of ")

    @property
    def runs_on(self):
        """The architectures, and "emulator", that the header's line `Runs on:` names."""
        found = re.findall(r"sm_\d+a?|emulator", self._line("Runs on")[1])
        return tuple(dict.fromkeys(found))  # each once: a dtype may repeat some

    def _line(self, start):
        for line in self.header:
            if line.startswith(start) and ":" in line:
                label, _, rest = line.removeprefix(start).partition(":")
                return label.strip(), rest.strip()
        raise LookupError(f"{self.path}: the header has no line that starts with {start!r}")


class _Ladders(Mapping):
    """Each ladder's rungs by its name; its package is imported when first asked for."""

    names = ("matmul", "attention", "softmax", "layer_norm", "cross_entropy")

    def __getitem__(self, name):
        if name not in self.names:
            raise UserError(f"there is no ladder {name!r}; there are: {', '.join(self.names)}")
        return importlib.import_module(f"minillm_kernels.cuda.{name}").RUNGS

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def find(self, ladder, rung):
        """The rung of a ladder by its number or its name.

        Raises
        ------
        UserError
            where there is no such ladder or rung, saying which there are.
        """
        rungs = self[ladder]
        for candidate in rungs:
            if str(rung) in (candidate.name, str(candidate.number)):
                return candidate
        known = ", ".join(r.name for r in rungs)
        raise UserError(f"the ladder {ladder} has no rung {rung!r}; it has: {known}")


LADDERS = _Ladders()
SINGLE = ("gelu", "rms_norm", "rotary")  # ops with a kernel each, which is no ladder's


def every_rung():
    """All rungs of all ladders, and the kernels of SINGLE, which are rungs without a ladder."""
    for rungs in LADDERS.values():
        yield from rungs
    for name in SINGLE:
        module = importlib.import_module(f"minillm_kernels.cuda.{name}")
        yield from (value for value in vars(module).values() if isinstance(value, Rung))


class Loaded:
    """A rung's kernels, compiled and ready to be launched."""

    def __init__(self, rung, module):
        self.rung, self._module, self._kernels = rung, module, {}

    def kernel(self, name):
        """One kernel as a function of (grid, block, args, *, shared_mem=0)."""
        if name not in self._kernels:
            self._kernels[name] = self._prepare(name)
        return self._kernels[name]

    def _prepare(self, name):
        raw = self._module.get_function(name)
        largest = PLAIN_SHARED

        def launch(grid, block, args, *, shared_mem=0):
            nonlocal largest
            grid, block = check_grid(grid, block)
            if shared_mem > largest:  # more than the default has to be allowed kernel by kernel
                raw.max_dynamic_shared_size_bytes = largest = shared_mem
            raw(grid, block, args, shared_mem=shared_mem)

        return launch


def load(rung, *, dtype=None, macros=None, carrier):
    """Make a rung's kernels ready for arrays like `carrier`: compiled once for each device.

    Parameters
    ----------
    rung : Rung
    dtype : one of `rung.dtypes`, whose macros are defined; None for the file as it is
    macros : {name: value} to define besides
    carrier : an array like those that the kernels will be given; CuPy's run on its GPU, NumPy's
        in the emulator

    Returns
    -------
    loaded : Loaded

    Raises
    ------
    UserError
        where the rung cannot run there.
    ValueError
        for another dtype, or arrays of a GPU that is not the current one.
    """
    if dtype is not None and dtype not in rung.dtypes:
        known = ", ".join(rung.dtypes)
        raise ValueError(f"{rung} has no kernels for {dtype}; it has them for: {known}")
    defined = {**rung.dtypes.get(dtype, NONE), **(macros or {})}
    items = tuple(sorted((name, str(value)) for name, value in defined.items()))
    if isinstance(carrier, np.ndarray):
        return _load_emulated(rung, items)
    if not hasattr(carrier, "__cuda_array_interface__"):
        raise ValueError(f"carrier must be a CuPy or NumPy array, got {type(carrier).__name__}")
    device = int(carrier.device.id)
    check_current(device)
    return _load_cupy(rung, dtype, items, device)


@functools.cache
def _load_emulated(rung, macros):
    if not rung.emulated:
        raise UserError(
            f"{rung} needs a GPU ({' or '.join(rung.arches)}): it speaks to hardware that the "
            "emulator has not; give it CuPy arrays, or climb to a lower rung"
        )
    from minillm_kernels.emulator import RawModule

    return Loaded(rung, RawModule(path=str(rung.path), options=_options(macros)))


@functools.cache
def _load_cupy(rung, dtype, macros, device):
    import cupy

    arches = rung.dtype_arches.get(dtype, rung.arches)
    with cupy.cuda.Device(device) as place:  # modules belong to a device
        name = cupy.cuda.runtime.getDeviceProperties(device)["name"].decode()
        check_capability(rung, arches, place.compute_capability, name)
        options = ("-std=c++17", *_options(macros))
        exact = f"sm_{place.compute_capability}a"
        if exact not in arches:
            module = cupy.RawModule(code=rung.path.read_text(), options=options)
            with missing_headers(rung):
                module.get_function(rung.kernels[0])  # compiles
            return Loaded(rung, module)
        # CuPy would name sm_90, which has not Hopper's own instructions, so nvcc compiles here.
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compile_cubin(rung.path, exact, dict(macros)).cubin)
            file.flush()
            module = cupy.RawModule(path=file.name)
            for kernel in rung.kernels:  # the file is read at the first of them
                module.get_function(kernel)
            return Loaded(rung, module)


def check_current(device):
    """Refuse arrays of another GPU than the current one, where results and launches go.

    Raises
    ------
    ValueError
    """
    import cupy

    current = cupy.cuda.runtime.getDevice()
    if device != current:
        raise ValueError(
            f"the arrays are on GPU {device}, but the current one is GPU {current}: "
            f"compute inside `with cupy.cuda.Device({device}):`"
        )


def check_capability(rung, arches, capability, name):
    """Refuse a GPU that is too old for a rung, or too new for one bound to a single generation.

    Parameters
    ----------
    capability : "75" for 7.5, as CuPy says it
    name : of the GPU, for the message

    Raises
    ------
    UserError
    """
    have = int(capability)
    plain = [int(arch[3:]) for arch in arches if not arch.endswith("a")]
    bound = [int(arch[3:-1]) for arch in arches if arch.endswith("a")]
    if have in bound or any(need <= have for need in plain):
        return
    need = min(plain + bound)
    exactly = "" if plain else "exactly "
    raise UserError(
        f"{rung} needs compute capability {exactly}{need / 10}, this is a {name} of {have / 10}"
    )


@contextlib.contextmanager
def missing_headers(rung):
    """Say what to install where NVRTC, which comes without headers, does not find one.

    Raises
    ------
    UserError
    """
    try:
        yield
    except Exception as error:  # CuPy's own CompileException, if it is one
        missing = re.search(r'open source file "([^"]+)"', str(error))
        if missing is None:
            raise
        raise UserError(
            f"compiling {rung} needs CUDA's headers, and <{missing[1]}> is not here: {HEADERS}"
        ) from None


def _options(macros):
    return tuple(f"-D{name}={value}" for name, value in macros)


def check_grid(grid, block):
    """Refuse a launch of more blocks or threads than CUDA allows; both as three numbers.

    Raises
    ------
    ValueError
    """
    grid = (*map(int, grid), 1, 1)[:3]
    block = (*map(int, block), 1, 1)[:3]
    for axis, n, most in zip("xyz", grid, MAX_GRID, strict=True):
        if not 1 <= n <= most:
            raise ValueError(f"the grid has {n} blocks on axis {axis}, allowed are 1 to {most}")
    threads = block[0] * block[1] * block[2]
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"a block has {threads} threads, allowed are 1 to {MAX_THREADS}")
    return grid, block


def check_array(name, array, *, dtype=None, shape=None, contiguous=True, like=None):
    """Refuse an argument that a kernel would misread.

    Parameters
    ----------
    name : of the argument, for the message
    dtype : what it must be, or a tuple of what it may be
    shape : what it must be, None standing for any length
    contiguous : whether it must be C-contiguous
    like : another argument's array: both must be on the same device

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    if not isinstance(array, np.ndarray) and not hasattr(array, "__cuda_array_interface__"):
        raise ValueError(f"{name} must be a CuPy or NumPy array, got {type(array).__name__}")
    if like is not None and _place(array) != _place(like):
        raise ValueError(f"{name} must be an array {_place(like)}, got one {_place(array)}")
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,)
    if dtype is not None and array.dtype.name not in [np.dtype(d).name for d in dtypes]:
        wanted = " or ".join(np.dtype(d).name for d in dtypes)
        raise ValueError(f"{name} must be {wanted}, got {array.dtype}")
    if shape is not None and (
        array.ndim != len(shape)
        or any(e is not None and s != e for s, e in zip(array.shape, shape, strict=True))
    ):
        wanted = ", ".join("any" if e is None else str(e) for e in shape)
        wanted += "," if len(shape) == 1 else ""
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if contiguous and not array.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous, got strides {array.strides} bytes")


def _place(array):
    if isinstance(array, np.ndarray):
        return "on the CPU (NumPy)"
    return f"on GPU {array.device.id} (CuPy)"

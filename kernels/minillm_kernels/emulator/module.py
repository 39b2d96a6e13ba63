"""RawModule and its kernels, with the shape of CuPy's."""

import ctypes
import functools
import re
from pathlib import Path

import numpy as np

from minillm_kernels.emulator import report
from minillm_kernels.emulator.arguments import Parameter, pack
from minillm_kernels.emulator.build import build_kernels
from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.emulator.guarded import run_guarded
from minillm_kernels.emulator.launch import (
    RawKernelEntry,
    check_limits,
    lines_of,
    run,
    settings,
)

__all__ = ["Kernel", "RawModule", "base_of"]


class RawModule:
    """CUDA C for the CPU, called like `cupy.RawModule`.

    Parameters
    ----------
    code : text of a .cu file
    path : or the file itself
    options : the compiler's, such as ("-DTILE=16",)
    name_expressions : template kernels to instantiate, such as ("reduce<float>",)
    checked : whether all launches will be inside `checking`: the fast code is not compiled then
    """

    def __init__(
        self,
        code=None,
        *,
        path=None,
        options=(),
        name_expressions=None,
        backend=None,
        checked=False,
    ):
        if (code is None) == (path is None):
            raise EmulatorError("RawModule takes either code or path")
        del backend  # "nvrtc" or "nvcc" for CuPy
        self.folder = Path(path).resolve().parent if path is not None else None
        if path is not None:
            try:
                code = Path(path).read_text()
            except OSError as error:
                raise EmulatorError(f"{path} cannot be read: {error.strerror}") from None
        self.code, self.name = code, Path(path).name if path is not None else "kernel.cu"
        self.options, self.checked = tuple(options), checked
        self.expressions = tuple(name_expressions or ())
        self._kernels = {}

    @functools.cache  # noqa: B019 - a module lives as long as its libraries
    def library(self, checked, fibers):
        """(build.Library, ctypes.CDLL) of one way to compile."""
        built = build_kernels(
            self.code,
            self.name,
            options=self.options,
            expressions=self.expressions,
            folder=self.folder,
            checked=checked,
            fibers=fibers,
        )
        loaded = ctypes.CDLL(built.path)
        loaded.emu_kernels.restype = ctypes.POINTER(RawKernelEntry)
        loaded.emu_anchor.restype = ctypes.c_void_p
        # Copied at once: a kernel that overruns a __device__ variable may write over the table.
        table = loaded.emu_kernels()
        loaded.entries = [
            RawKernelEntry.from_buffer_copy(table[i]) for i in range(len(built.kernels))
        ]
        loaded.parameters = [
            tuple(Parameter.read(entry.parameters[i]) for i in range(entry.count))
            for entry in loaded.entries
        ]
        return built, loaded

    def compile(self):
        """Compile now rather than at the first `get_function`."""
        self.library(False, settings().fibers)

    def get_function(self, name):
        """The kernel of this name, or of this name expression."""
        if name not in self._kernels:
            built, _ = self.library(self.checked, settings().fibers)
            if name not in built.kernels:
                listed = (
                    ", ".join([*built.kernels, *(t + "<...>" for t in built.templates)]) or "none"
                )
                hint = (
                    f"; name it with its arguments in name_expressions, such as '{name}<float>'"
                    if name.split("<")[0] in built.templates
                    else ""
                )
                raise EmulatorError(f"{self.name} has no kernel {name!r}; it has: {listed}{hint}")
            self._kernels[name] = Kernel(self, name)
        return self._kernels[name]

    def get_global(self, name):
        """A __device__ or __constant__ variable: its bytes as a NumPy array, to view or fill."""
        built, loaded = self.library(False, settings().fibers)
        if name not in built.variables:
            raise EmulatorError(f"{self.name} has no __device__ or __constant__ variable {name!r}")
        offset, size = built.variables[name]
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(base_of(loaded) + offset))


class Kernel:
    """One kernel, called like `cupy.RawKernel`: kernel(grid, block, args, shared_mem=0).

    Attributes
    ----------
    max_dynamic_shared_size_bytes : how much dynamic shared memory it may ask for, beyond what every
        kernel may
    shared_size_bytes : its static shared memory
    """

    def __init__(self, module, name):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 0
        built, loaded = module.library(module.checked, settings().fibers)
        index = built.kernels.index(name)
        self.parameters = loaded.parameters[index]
        self.most_threads = loaded.entries[index].most_threads
        self.shared_size_bytes = _static_bytes(built, name)

    def entry(self, checked):
        """The pointer to this kernel's emu_kernel in the fast or in the checked library."""
        built, loaded = self.module.library(checked, settings().fibers)
        return ctypes.pointer(loaded.entries[built.kernels.index(self.name)])

    def loaded(self):
        """The fast library."""
        return self.module.library(False, settings().fibers)[1]

    def locate(self, pc):
        """(file, line) of an address in the kernel's code, or None."""
        built, loaded = self.module.library(report.active() is not None, settings().fibers)
        return lines_of(built.path, [pc - base_of(loaded)], self.module.name)[0]

    def __call__(self, grid, block, args, *, shared_mem=0):
        grid, block = check_limits(self, grid, block, shared_mem)
        values = pack(self.name, self.parameters, args)
        watching = report.active()
        if watching is None:

            def launch(passed):
                run(self, self.loaded(), self.entry(False), grid, block, passed)

            run_guarded(self.name, values, launch)
        else:
            watching.run(self, grid, block, values, shared_mem)


def _static_bytes(built, kernel):
    """The bytes of the __shared__ variables that a kernel declares, and those of no kernel.

    A variable of a function has the function's mangled name in its own: _ZZ6matmulE4tile.
    """
    owners = [
        f"_ZZ{len(n)}{n}" for n in (re.sub(r"<.*", "", k).split("::")[-1] for k in built.kernels)
    ]
    plain = re.sub(r"<.*", "", kernel).split("::")[-1]
    mine = f"_ZZ{len(plain)}{plain}"
    return sum(
        size
        for name, (_, size) in built.shared.items()
        if not name.startswith("_ZGV")  # g++'s own
        if name.startswith(mine) or not name.startswith(tuple(owners))
    )


def base_of(loaded):
    """Where a library lies in memory."""

    class Information(ctypes.Structure):
        _fields_ = (
            ("file", ctypes.c_char_p),
            ("base", ctypes.c_void_p),
            ("name", ctypes.c_char_p),
            ("address", ctypes.c_void_p),
        )

    information = Information()
    find = ctypes.CDLL(None).dladdr
    find.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    find(ctypes.cast(loaded.emu_kernels, ctypes.c_void_p), ctypes.byref(information))
    return information.base

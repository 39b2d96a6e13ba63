"""One launch: limits checked, arguments laid out, blocks run, what went wrong told in one line."""

import contextlib
import contextvars
import ctypes
import functools
import operator
import os
import re
import subprocess
from dataclasses import dataclass, replace

from minillm.cores import available_cores
from minillm_kernels.emulator.arguments import RawParameter
from minillm_kernels.emulator.build import DYNAMIC_BYTES, STATIC_BYTES, build_runtime
from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.limits import MAX_GRID

__all__ = ["Settings", "coordinates", "emulator_settings", "lines_of", "run", "settings"]

MAX_BLOCK = (1024, 1024, 64)
MAX_THREADS = 1024
MAX_WORKERS = 16  # each maps 2048 pieces of memory for its stacks; Linux allows 65530 in all
FOREVER = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """How launches run.

    Attributes
    ----------
    seed : of the order of threads and blocks
    workers : threads of the machine that run blocks; None for all cores that are ours
    fibers : "native" or "ucontext"
    """

    seed: int = 0
    workers: int | None = None
    fibers: str = "native"


_settings = contextvars.ContextVar("emulator_settings", default=Settings())  # noqa: B039 - frozen


def settings():
    """The settings in force."""
    return _settings.get()


@contextlib.contextmanager
def emulator_settings(**changes):
    """Change the seed, the workers or the kind of fibers for the launches inside."""
    token = _settings.set(replace(_settings.get(), **changes))
    try:
        yield
    finally:
        _settings.reset(token)


class RawKernelEntry(ctypes.Structure):
    """emu_kernel of include/emu_runtime.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("call", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(RawParameter)),
        ("count", ctypes.c_int),
        ("most_threads", ctypes.c_int),
    )


class Request(ctypes.Structure):
    """emu_request of src/launch.cpp."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("checker", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("workers", ctypes.c_int32),
        ("shuffle", ctypes.c_int32),
        ("anchor", ctypes.c_void_p),
        ("anchor_offset", ctypes.c_uint64),
    )


class Outcome(ctypes.Structure):
    """emu_outcome of src/launch.cpp."""

    _fields_ = (
        ("kind", ctypes.c_char_p),
        ("file", ctypes.c_char_p),
        ("message", ctypes.c_char_p),
        ("pc", ctypes.c_void_p),
        ("line", ctypes.c_int32),
        ("thread", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
    )


@functools.cache
def runtime(fibers):
    """The scheduler's library."""
    library = ctypes.CDLL(build_runtime(fibers))
    library.emu_start.restype = ctypes.c_void_p
    library.emu_start.argtypes = [ctypes.POINTER(Request)]
    library.emu_wait.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.emu_stop.argtypes = [ctypes.c_void_p]
    library.emu_end.argtypes = [ctypes.c_void_p]
    library.emu_outcome_of.argtypes = [ctypes.c_void_p, ctypes.POINTER(Outcome)]
    return library


def dimensions(what, value, limits):
    """Three positive numbers within limits, from one to three."""
    try:
        numbers = (operator.index(value),) if not hasattr(value, "__iter__") else value
        numbers = tuple(operator.index(n) for n in numbers)
    except TypeError:
        raise EmulatorError(f"{what} must be 1 to 3 whole numbers, got {value!r}") from None
    if not 1 <= len(numbers) <= 3:
        raise EmulatorError(f"{what} must have 1 to 3 numbers, got {value!r}")
    numbers = (*numbers, 1, 1)[:3]
    for axis, n, limit in zip("xyz", numbers, limits, strict=True):
        if not 1 <= n <= limit:
            raise EmulatorError(f"{what}.{axis} must be 1 to {limit}, got {n}")
    return numbers


def check_limits(kernel, grid, block, shared_mem):
    """Refuse what no GPU launches; grid and block as three numbers each."""
    grid = dimensions(f"{kernel.name}: grid", grid, MAX_GRID)
    block = dimensions(f"{kernel.name}: block", block, MAX_BLOCK)
    threads = block[0] * block[1] * block[2]
    if threads > MAX_THREADS:
        raise EmulatorError(
            f"{kernel.name}: a block has at most {MAX_THREADS} threads, got {threads} ({block})"
        )
    if kernel.most_threads and threads > kernel.most_threads:
        raise EmulatorError(
            f"{kernel.name}: __launch_bounds__ promises at most {kernel.most_threads} threads a "
            f"block, got {threads}"
        )
    static = kernel.shared_size_bytes
    try:
        shared_mem = operator.index(shared_mem)
    except TypeError:
        raise EmulatorError(
            f"{kernel.name}: shared_mem must be a number of bytes, got {shared_mem!r}"
        ) from None
    if static > STATIC_BYTES:
        raise EmulatorError(
            f"{kernel.name} declares {static} bytes of __shared__ variables; at most "
            f"{STATIC_BYTES} can be static, more must be dynamic (extern __shared__)"
        )
    if shared_mem < 0 or shared_mem + static > DYNAMIC_BYTES:
        raise EmulatorError(
            f"{kernel.name}: a block has at most {DYNAMIC_BYTES} bytes of shared memory, "
            f"got shared_mem={shared_mem} and {static} static"
        )
    if shared_mem > max(STATIC_BYTES - static, kernel.max_dynamic_shared_size_bytes):
        raise EmulatorError(
            f"{kernel.name}: more than {STATIC_BYTES} bytes of shared memory ({static} static, "
            f"shared_mem={shared_mem}) must be allowed first: "
            f"kernel.max_dynamic_shared_size_bytes = {shared_mem}"
        )
    return grid, block


def run(kernel, loaded, entry, grid, block, values, **more):
    """Run a kernel and wait for it.

    Parameters
    ----------
    kernel : module.Kernel
    loaded : ctypes library, the fast or the checked one
    entry : pointer to its emu_kernel
    grid, block : three numbers each, checked
    values : the arguments as `pack` gives them; an int in an array's place is an address
    more : fields of Request, in the place of the settings'

    Raises
    ------
    EmulatorError
        for what went wrong in the kernel.
    """
    now = settings()
    library = runtime(now.fibers)
    pointers, keep = lay_out(values)
    workers = now.workers or available_cores()
    request = {"seed": now.seed, "workers": max(1, min(workers, MAX_WORKERS)), **more}
    request["seed"] &= 2**64 - 1
    handle = library.emu_start(
        ctypes.byref(
            Request(
                kernel=ctypes.cast(entry, ctypes.c_void_p).value,
                arguments=pointers,
                grid=grid,
                block=block,
                anchor=ctypes.cast(loaded.emu_anchor, ctypes.c_void_p).value,
                **request,
            )
        )
    )
    try:
        wait(library, handle)
        outcome = Outcome()
        if library.emu_outcome_of(handle, ctypes.byref(outcome)):
            raise failure(kernel, outcome)
    finally:
        library.emu_end(handle)
        del keep


def wait(lib, handle):
    """Until the launch has ended; Ctrl-C stops it, even in an endless loop."""
    try:
        while not lib.emu_wait(handle, 100):
            pass
    except BaseException:
        lib.emu_stop(handle)
        while not lib.emu_wait(handle, 20):
            lib.emu_stop(handle)
        raise


def lay_out(values):
    """An array of pointers to the arguments, and what must live as long as it does."""
    pointers = (ctypes.c_void_p * (len(values) + 1))()
    keep = []
    for i, value in enumerate(values):
        if isinstance(value, bytes):
            cell = ctypes.create_string_buffer(value, len(value))
        else:
            cell = ctypes.c_void_p(address_of(value))
        keep.append(cell)
        pointers[i] = ctypes.addressof(cell)
    return pointers, keep


def address_of(value):
    if value is None or isinstance(value, int):
        return value
    return value[0].ctypes.data


def failure(kernel, outcome):
    """An EmulatorError of what the runtime reports."""
    kind, message = outcome.kind.decode(), outcome.message.decode()
    file, line = outcome.file.decode(), outcome.line
    if outcome.pc:
        file, line = kernel.locate(outcome.pc) or ("", 0)
    thread, block = (tuple(int(n) for n in x) for x in (outcome.thread, outcome.block))
    label = (
        "" if kind in ("warp", "fault", "trap", "memory", "exception", "stopped") else f"{kind}: "
    )
    who = f"thread {coordinates(thread)} of block {coordinates(block)}"
    return EmulatorError(
        f"{label}{message} [{kernel.name}, {who}]", kind=kind, file=file or None, line=line or None
    )


def coordinates(numbers):
    return "(" + ",".join(map(str, numbers)) + ")"


def lines_of(library, offsets, name):
    """The .cu file's lines of code addresses: the innermost place that lies in no header.

    Parameters
    ----------
    library : path
    offsets : list of int, from the library's beginning
    name : the .cu file's, as it was compiled

    Returns
    -------
    places : list of (file, line) or None
    """
    if not offsets:
        return []
    command = ["addr2line", "-i", "-a", "-e", library, *(hex(o) for o in offsets)]
    try:
        out = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:  # binutils are g++'s company; without them there are no lines
        return [None] * len(offsets)
    places = []
    for row in out.splitlines():
        if row.startswith("0x"):
            places.append(None)
            continue
        found = re.match(r"(.*):(\d+)", row)
        if places[-1] is None and found and _is_own(found[1], name):
            places[-1] = (name, int(found[2]))
    return places


def _is_own(file, name):
    return os.path.basename(file) == os.path.basename(name)

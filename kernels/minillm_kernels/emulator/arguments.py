"""What may be passed to a kernel: each argument held against the parameter's C++ type.

CuPy hands over whatever it is given: a Python float becomes a double even where the kernel reads a
float, a float64 array is read as float32. The kernel then computes with garbage. Here the type is
known, so the mistake is named before the launch.
"""

import ctypes
import re
from dataclasses import dataclass

import numpy as np

from minillm_kernels.emulator.errors import EmulatorError

__all__ = ["Parameter", "bytes_spanned", "overlapping", "pack"]

KINDS = {"f": "f", "i": "iub", "u": "iub", "b": "biu"}
VECTOR = re.compile(r"(u?char|u?short|u?int|u?long|u?longlong|float|double)[1-4]$")
LETTERS = {"char": "iub", "short": "iu", "int": "iu", "long": "iu", "float": "f", "double": "f"}
SIZES = {"char": 1, "short": 2, "int": 4, "long": 8, "longlong": 8, "float": 4, "double": 8}
HALVES = {"__half": "float16", "half": "float16", "__nv_bfloat16": "bfloat16"}


class RawParameter(ctypes.Structure):
    """emu_parameter of include/emu_runtime.h."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("element_kind", ctypes.c_char),
        ("is_const", ctypes.c_uint16),
        ("size", ctypes.c_uint32),
        ("element_size", ctypes.c_uint32),
        ("type", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel; kinds are emu_parameter's letters."""

    kind: str
    element_kind: str
    is_const: bool
    size: int
    element_size: int
    type: str

    @classmethod
    def read(cls, raw):
        name = re.search(r"\[with T = (.*)\]$", raw.type.decode())[1]
        return cls(
            raw.kind.decode(),
            raw.element_kind.decode(),
            bool(raw.is_const),
            raw.size,
            raw.element_size,
            name,
        )

    @property
    def element(self):
        """The type pointed to, without const."""
        return re.sub(r"\b(const|volatile|__restrict__|__restrict)\b|[*&]", "", self.type).strip()


def pack(kernel, parameters, args):
    """Check a launch's arguments and lay them out for the call.

    Parameters
    ----------
    kernel : its name, for messages
    parameters : tuple of Parameter
    args : what the user passed

    Returns
    -------
    values : list of (bytes | (array, Parameter) | None), one a parameter
    """
    if not isinstance(args, (tuple, list)):
        raise EmulatorError(f"{kernel}: the arguments must be a tuple, got {type(args).__name__}")
    if len(args) != len(parameters):
        wanted = ", ".join(p.type for p in parameters)
        raise EmulatorError(
            f"{kernel} takes {len(parameters)} arguments ({wanted}), got {len(args)}"
        )
    return [
        _one(f"{kernel}: argument {i} ({p.type})", p, value)
        for i, (p, value) in enumerate(zip(parameters, args, strict=True), 1)
    ]


def _one(what, parameter, value):
    if parameter.kind == "p":
        return _pointer(what, parameter, value)
    if isinstance(value, np.ndarray) and value.ndim:
        raise EmulatorError(f"{what} is no pointer, got an array")
    if parameter.kind == "s":
        return _structure(what, parameter, value)
    return _scalar(what, parameter, value)


def _pointer(what, parameter, array):
    if array is None:
        return None
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__cuda_array_interface__"):
            raise EmulatorError(
                f"{what} is an array on a GPU ({type(array).__module__}); "
                "the emulator takes NumPy arrays"
            )
        raise EmulatorError(f"{what} must be a NumPy array, got {type(array).__name__}")
    if not _fits(parameter, array.dtype):
        raise EmulatorError(f"{what} points to {parameter.element}, got an array of {array.dtype}")
    if array.size and not _is_row_major(array):
        raise EmulatorError(
            f"{what} must be C-contiguous, or rows cut out of such an array; "
            f"got shape {array.shape} with strides {array.strides} bytes"
        )
    if not parameter.is_const and not array.flags.writeable:
        raise EmulatorError(f"{what} may be written by the kernel, got a read-only array")
    return array, parameter


def _is_row_major(array):
    """Elements in order, a row's side by side: what a leading dimension can describe."""
    step = array.itemsize
    for axis, (n, stride) in enumerate(zip(array.shape[::-1], array.strides[::-1], strict=True)):
        if n == 1:
            continue
        if stride < step or (axis == 0 and stride != step):
            return False
        step = stride * n
    return True


def bytes_spanned(array):
    """From an array's first byte to beyond its last one, gaps between rows included."""
    if array.size == 0:
        return 0
    return (
        sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
    )


def overlapping(values):
    """The arrays among a launch's values, those that share memory together.

    Returns
    -------
    groups : list of (start, end, arguments), addresses and indices
    """
    spans = []
    for i, value in enumerate(values):
        if isinstance(value, tuple):
            start = value[0].ctypes.data
            spans.append((start, start + bytes_spanned(value[0]), i))
    groups = []
    for start, end, i in sorted(spans):
        if groups and start < groups[-1][1]:
            groups[-1] = (groups[-1][0], max(end, groups[-1][1]), [*groups[-1][2], i])
        else:
            groups.append((start, end, [i]))
    return groups


def _fits(parameter, dtype):
    kind, size, name = parameter.element_kind, parameter.element_size, parameter.element
    if kind == "v":
        return True
    if kind == "s":
        if name in HALVES:
            return dtype.name == HALVES[name] or (dtype.itemsize == 2 and dtype.kind == "u")
        if name in ("__half2", "half2", "__nv_bfloat162"):
            return dtype.itemsize == 2
        vector = VECTOR.match(name)
        if vector:
            base = vector[1].removeprefix("u")
            return (
                dtype.kind in LETTERS[base.removesuffix("long") or "long"]
                and dtype.itemsize == SIZES[base]
            )
        return True
    if kind == "p":
        return dtype.itemsize == 8 and dtype.kind in "iu"
    return dtype.itemsize == size and dtype.kind in KINDS[kind]


def _scalar(what, parameter, value):
    """The bytes of a number."""
    kind, size = parameter.kind, parameter.size
    if isinstance(value, np.ndarray):
        value = value[()]
    letter = {"f": "f", "i": "i", "u": "u", "b": "?"}[kind]
    dtype = np.dtype(np.bool_) if kind == "b" else np.dtype(f"{letter}{size}")
    hint = f"pass np.{dtype.name}(...)"
    if isinstance(value, np.generic):
        if value.dtype.itemsize == size and value.dtype.kind in KINDS[kind]:
            return value.tobytes()
        raise EmulatorError(f"{what} takes {dtype.name}, got np.{value.dtype.name}; {hint}")
    if isinstance(value, (bool, int)) and kind in "iub":
        if kind == "b":
            return bytes([bool(value)])
        if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise EmulatorError(f"{what} takes {dtype.name}, which cannot hold {value}")
        return np.array(value, dtype).tobytes()
    if isinstance(value, float) and kind == "f" and size == 8:
        return np.float64(value).tobytes()
    if isinstance(value, float) and kind == "f":
        raise EmulatorError(
            f"{what} takes {dtype.name}, got a Python float, which CuPy passes as double; {hint}"
        )
    raise EmulatorError(f"{what} takes {dtype.name}, got {type(value).__name__}; {hint}")


def _structure(what, parameter, value):
    content = None
    if isinstance(value, (np.generic, np.ndarray)):
        content = value.tobytes()
    elif isinstance(value, ctypes.Structure):
        content = bytes(value)
    if content is None or len(content) != parameter.size:
        raise EmulatorError(
            f"{what} takes a value of {parameter.size} bytes (a NumPy scalar, a ctypes structure); "
            f"got {type(value).__name__}"
        )
    return content

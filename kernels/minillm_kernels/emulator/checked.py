"""One checked launch: arrays copied to memory of their own, the C++ checker set up, findings told.

The C++ side (src/checker.cpp) knows addresses; here they become arguments, elements and lines.
"""

import ctypes
import os
import re

import numpy as np

from minillm_kernels.emulator.arguments import bytes_spanned, overlapping
from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.emulator.launch import coordinates, lines_of, run, runtime, settings

__all__ = ["Launch", "misalignment"]

UNINITIALISED = "uninitialised shared memory"
KINDS = (
    "race",
    "out of bounds",
    UNINITIALISED,
    "misaligned",
    "undefined shuffle",
    "out of bounds",
)
VERBS = ("reads", "writes", "updates atomically")
SHARED, VARIABLE, NOWHERE = -1, -2, -3
BAD_INDEX = 5
DYNAMIC_OWNER, NOT_OURS = 255, 254


class Options(ctypes.Structure):
    """Options of src/checker.h."""

    _fields_ = tuple(
        (name, ctypes.c_int32)
        for name in (
            "races",
            "bounds",
            "uninitialised",
            "banks",
            "coalescing",
            "padded",
            "wide",
            "sealed",
        )
    )


class RawFinding(ctypes.Structure):
    """Finding of src/checker.h."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("range", ctypes.c_int32),
        ("access", ctypes.c_int32),
        ("other_access", ctypes.c_int32),
        ("site", ctypes.c_uint32),
        ("other_site", ctypes.c_uint32),
        ("thread", ctypes.c_uint32 * 3),
        ("other_thread", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("other_block", ctypes.c_uint32 * 3),
        ("size", ctypes.c_uint32),
        ("line", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("count", ctypes.c_uint64),
        ("same_warp", ctypes.c_int32),
        ("other_is_later", ctypes.c_int32),
        ("file", ctypes.c_char * 200),
        ("text", ctypes.c_char * 100),
    )


class Cost(ctypes.Structure):
    """Cost of src/requests.h."""

    _fields_ = (
        ("site", ctypes.c_uint32),
        ("shared", ctypes.c_uint32),
        ("requests", ctypes.c_uint64),
        ("transfers", ctypes.c_uint64),
        ("ideal_transfers", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
    )


def checker_library(fibers):
    """The runtime with the types of the checker's functions."""
    library = runtime(fibers)
    pointer, number = ctypes.c_void_p, ctypes.c_uint64
    library.emu_checker_new.restype = pointer
    library.emu_checker_new.argtypes = [ctypes.POINTER(Options), pointer, ctypes.c_int]
    library.emu_checker_shared.argtypes = [pointer, number, ctypes.c_char_p]
    library.emu_checker_array.restype = number
    library.emu_checker_array.argtypes = [pointer, ctypes.c_int, number, number]
    library.emu_checker_variables.argtypes = [pointer, number, number]
    library.emu_checker_findings.restype = number
    library.emu_checker_findings.argtypes = [
        pointer,
        ctypes.POINTER(ctypes.POINTER(RawFinding)),
    ]
    library.emu_checker_costs.restype = number
    library.emu_checker_costs.argtypes = [pointer, ctypes.POINTER(Cost), number]
    library.emu_checker_end.argtypes = [pointer]
    return library


class Launch:
    """A checked launch of one kernel.

    Parameters
    ----------
    kernel : module.Kernel
    shared_mem : bytes of dynamic shared memory
    options : {check: bool}
    """

    def __init__(self, kernel, shared_mem, options):
        from minillm_kernels.emulator.module import base_of

        self.kernel, self.shared_mem = kernel, shared_mem
        self.fibers = settings().fibers
        self.library = checker_library(self.fibers)
        self.built, self.loaded = kernel.module.library(True, self.fibers)
        self.base = base_of(self.loaded)
        self.names = self.built.parameters.get(re.sub(r"<.*", "", kernel.name).split("::")[-1], [])
        self.handle = self.library.emu_checker_new(
            ctypes.byref(Options(**options, padded=self.built.padded, wide=self.built.wide)),
            self.base,
            self.built.granule,
        )
        self.arrays = {}  # by argument: (array, first argument that shares its memory)
        self._watch_shared()
        self._watch_variables()

    def run(self, grid, block, values, seed):
        """Run it on copies of the arrays, and copy back what may have been written."""
        copies = self._copy_arrays(values)
        passed = [c if c is not None else v for c, v in zip(copies, values, strict=True)]
        try:
            run(
                self.kernel,
                self.loaded,
                self.kernel.entry(True),
                grid,
                block,
                passed,
                seed=seed,
                workers=1,
                shuffle=1,
                checker=self.handle,
                anchor_offset=self.built.anchor,
            )
        finally:
            for value, address in zip(values, copies, strict=True):
                if address and not value[1].is_const:
                    np.copyto(value[0], _view(address, value[0]))

    def close(self):
        self.library.emu_checker_end(self.handle)
        self.handle = None

    # ---- what is watched

    def _watch_shared(self):
        """Tell whose each granule of the shared memory's segment is."""
        granule = self.built.granule
        variables = list(self.built.shared.items())
        ends = [offset + size for _, (offset, size) in variables]
        if self.built.dynamic is not None:
            ends.append(self.built.dynamic + 227 * 1024)
        owners = np.zeros(max(ends, default=0) // granule + 1, np.uint8)
        for i, (name, (offset, size)) in enumerate(variables):
            owner = NOT_OURS if name.startswith("_ZGV") else i % 250 + 1
            owners[offset // granule : -(-(offset + size) // granule)] = owner
        if self.built.dynamic is not None:
            start = self.built.dynamic // granule
            owners[start : start + -(-self.shared_mem // granule)] = DYNAMIC_OWNER
        if not self.library.emu_checker_shared(
            self.handle, owners.size * granule, owners.tobytes()
        ):
            raise EmulatorError("there is no memory to watch shared memory with")

    def _watch_variables(self):
        places = [place for place in self.built.variables.values() if place[1]]
        if places:
            start = min(offset for offset, _ in places)
            end = max(offset + size for offset, size in places)
            self.library.emu_checker_variables(self.handle, self.base + start, end - start)

    def _copy_arrays(self, values):
        """Addresses of copies, None for no array; arrays that overlap do so in one copy, too."""
        copies = [None] * len(values)
        for start, end, members in overlapping(values):
            first = min(members)
            address = self.library.emu_checker_array(
                self.handle, first, end - start, misalignment(values[members[0]][0])
            )
            if not address:
                raise EmulatorError(f"there is no memory to watch {end - start} bytes with")
            self.arrays[first] = (values[first][0], values[first][0].ctypes.data - start)
            for i in members:
                copies[i] = address + values[i][0].ctypes.data - start
                _view(copies[i], values[i][0])[...] = values[i][0]
        return copies

    # ---- what came of it

    def results(self):
        """(findings as Finding's fields, costs as (file, line, memory, requests, ...))."""
        raw = ctypes.POINTER(RawFinding)()
        n = self.library.emu_checker_findings(self.handle, ctypes.byref(raw))
        found = [raw[i] for i in range(n)]
        m = self.library.emu_checker_costs(self.handle, None, 0)
        costs = (Cost * m)()
        self.library.emu_checker_costs(self.handle, costs, m)
        sites = {f.site for f in found if not f.line} | {f.other_site for f in found if not f.line}
        sites = sorted(sites | {c.site for c in costs})
        places = dict(
            zip(sites, lines_of(self.built.path, sites, self.kernel.module.name), strict=True)
        )
        indexed = {f.line for f in found if f.kind == BAD_INDEX}
        told = []
        for f in found:
            place = (
                (os.path.basename(f.file.decode()), f.line)
                if f.line
                else places[f.site] or (self.kernel.module.name, 0)
            )
            if KINDS[f.kind] == "out of bounds" and f.kind != BAD_INDEX and place[1] in indexed:
                continue  # the index has told it
            told.append(self._tell(f, place, places.get(f.other_site)))
        told = _without_consequences(told)
        counted = [
            (
                *(places[c.site] or (self.kernel.module.name, 0)),
                "shared" if c.shared else "global",
                c.requests,
                c.transfers,
                c.ideal_transfers,
                c.bytes,
            )
            for c in costs
        ]
        return told, counted

    def _tell(self, f, place, other):
        file, line = place
        thread, block = _numbers(f.thread), _numbers(f.block)
        kind = KINDS[f.kind]
        fields = {
            "kind": kind,
            "file": file,
            "line": line,
            "count": f.count,
            "thread": thread,
            "block": block,
            "kernel": self.kernel.name,
        }
        who = f"thread {coordinates(thread)} of block {coordinates(block)}"
        if kind == "race":
            fields["other_line"] = other[1] if other else 0
            fields["other_thread"] = _numbers(f.other_thread)
            fields["other_block"] = _numbers(f.other_block)
            fields["message"] = self._tell_race(f, fields)
        elif f.kind == BAD_INDEX:
            fields["message"] = f"index {f.offset} is outside {f.text.decode()}, by {who}"
        elif kind == "out of bounds":
            fields["message"] = f"{who} {VERBS[f.access]} {self._tell_beyond(f)}"
        elif kind == "misaligned":
            fields["message"] = (
                f"{who} {VERBS[f.access]} {f.size} bytes at an address that is {f.offset} beyond "
                f"a multiple of {f.size}"
            )
        elif kind == "undefined shuffle":
            fields["message"] = (
                f"{who} reads lane {f.offset}, which the mask does not name or the block has not"
            )
        else:
            fields["message"] = (
                f"{who} reads {self._element(f.range, f.offset)}, which nothing has written"
            )
        return fields

    def _tell_race(self, f, fields):
        """The sentence: first the access that a thread's course has first, then the later one."""
        if f.other_is_later:
            for name in ("line", "thread", "block"):
                fields[name], fields["other_" + name] = fields["other_" + name], fields[name]
        verbs = VERBS[f.access], VERBS[f.other_access]
        then, before = verbs[::-1] if f.other_is_later else verbs
        fields["within_warp"] = bool(f.same_warp)
        one, other = coordinates(fields["thread"]), coordinates(fields["other_thread"])
        here, there = coordinates(fields["block"]), coordinates(fields["other_block"])
        what = self._element(f.range, f.offset)
        first = f"line {fields['other_line']} {before} {what} by thread {other}"
        second = f"line {fields['line']} {then} it by thread {one}"
        if here != there:
            return (
                f"{first} of block {there} and {second} of block {here}; "
                "nothing orders the blocks of a launch"
            )
        lacks = "__syncwarp or __syncthreads" if f.same_warp else "__syncthreads"
        return f"{first} and {second} with no {lacks} between, in block {here}"

    def _argument(self, index):
        array = self.arrays[index][0]
        name = self.names[index] if index < len(self.names) else f"argument {index + 1}"
        return name, array, f"{name} (argument {index + 1}, {array.dtype} {array.shape})"

    def _element(self, where, offset):
        """What lies at an offset, for people."""
        if where == SHARED:
            name, start, _ = self._shared_variable(offset)
            return f"{name} at byte {offset - start}"
        if where == VARIABLE:
            return "a __device__ variable"
        name, array, _ = self._argument(where)
        element = (offset - self.arrays[where][1]) // array.itemsize
        if array.flags.c_contiguous and 0 <= element < array.size:
            return name + "".join(f"[{i}]" for i in np.unravel_index(element, array.shape))
        return f"{name}'s element {element}"

    def _shared_variable(self, offset):
        """The variable at an offset of shared memory, or the next one: (name, offset, bytes)."""
        places = [(_plain_name(k), *place) for k, place in self.built.shared.items()]
        if self.built.dynamic is not None:
            places.append((self.built.dynamic_name, self.built.dynamic, self.shared_mem))

        def away(place):
            return max(place[1] - offset, offset - (place[1] + place[2] - 1), 0)

        return min(places, key=away, default=("shared memory", 0, 0))

    def _tell_beyond(self, f):
        many = f"{f.size} bytes" if f.size > 1 else "1 byte"
        if f.range == SHARED:
            name, start, length = self._shared_variable(f.offset)
            has = f"which has {length} bytes"
            if start == self.built.dynamic:
                has = f"which was launched with shared_mem={length}"
            return f"{many} at byte {f.offset - start} of {name}, {has}"
        if f.range == VARIABLE:
            return f"{many} outside the __device__ variables"
        if f.range == NOWHERE:
            return f"{many} at address {f.offset:#x}, which belongs to no argument"
        _, array, text = self._argument(f.range)
        length = bytes_spanned(array)
        offset = f.offset - self.arrays[f.range][1]
        element = offset // array.itemsize
        if offset < 0:
            return f"element {element} of {text}: {-offset} bytes before its beginning"
        out = offset + f.size - length
        return f"element {element} of {text}: {out} bytes beyond its end"


def _without_consequences(told):
    """Races first; and a read that races with the write it should follow is no second mistake."""
    raced = {line for t in told if t["kind"] == "race" for line in (t["line"], t["other_line"])}
    order = sorted(told, key=lambda t: t["kind"] != "race")
    return [t for t in order if t["kind"] != UNINITIALISED or t["line"] not in raced]


def _plain_name(mangled):
    """The variable of a mangled name such as _ZZ6matmulE4tile or _ZL4tile."""
    if not mangled.startswith("_Z"):
        return mangled
    for found in re.finditer(r"[EL](\d+)", mangled):
        start, length = found.end(), int(found[1])
        rest = mangled[start + length :]
        if length and len(mangled) >= start + length and re.fullmatch(r"(_\d+|_\d*_)?", rest):
            return mangled[start : start + length]
    return mangled


def _numbers(triple):
    return tuple(int(n) for n in triple)


def _view(address, array):
    """An array at an address, of another array's dtype, shape and strides."""
    size = bytes_spanned(array)
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.ndarray(array.shape, array.dtype, buffer=memory, strides=array.strides)


def misalignment(array):
    """How far beyond a multiple of 256 bytes an array would start on a GPU.

    There, a whole array begins at such a multiple, and a slice of it where it lies within.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return (array.ctypes.data - owner.ctypes.data) % 256

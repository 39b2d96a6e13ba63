"""Arrays of an unchecked launch: copies with a margin, so that an overrun does not hurt Python.

A kernel that writes a few elements beyond its array would write over whatever Python keeps there,
and end it, now or later. What lies in the margins afterwards tells that it did.
"""

import ctypes

import numpy as np

from minillm_kernels.emulator.arguments import bytes_spanned, overlapping
from minillm_kernels.emulator.checked import misalignment
from minillm_kernels.emulator.errors import EmulatorError

__all__ = ["run_guarded"]

MARGIN = 4096  # bytes on both sides
FILL = 0xA5


def run_guarded(kernel, values, launch):
    """Call `launch` with copies of the arrays among `values`, and copy back what it may write."""
    passed, margins = list(values), []
    for start, end, members in overlapping(values):
        memory = np.empty(end - start + 2 * MARGIN + 256, np.uint8)
        wanted = misalignment(values[members[0]][0])
        begin = MARGIN + (wanted - memory.ctypes.data - MARGIN) % 256
        sides = memory[:begin], memory[begin + end - start :]
        for side in sides:
            side[:] = FILL
        margins.append((sides, memory, members))
        for i in members:
            array = values[i][0]
            passed[i] = memory.ctypes.data + begin + array.ctypes.data - start
            _bytes(passed[i], array)[:] = _bytes(array.ctypes.data, array)  # gaps between rows, too
    try:
        launch(passed)
    finally:
        for _, _, members in margins:
            for i in members:
                if not values[i][1].is_const:
                    array = values[i][0]
                    _bytes(array.ctypes.data, array)[:] = _bytes(passed[i], array)
    for sides, _, members in margins:
        if any((side != FILL).any() for side in sides):
            i = members[0]
            raise EmulatorError(
                f"{kernel}: elements outside argument {i + 1} ({values[i][1].type}, an array of "
                f"shape {values[i][0].shape}) were written; checking() tells which and where",
                kind="out of bounds",
            )


def _bytes(address, array):
    """What lies at an address, from an array's first byte to its last."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * bytes_spanned(array)).from_address(address))

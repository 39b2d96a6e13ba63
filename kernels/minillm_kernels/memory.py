"""One line instead of a traceback where the GPU's memory does not suffice."""

import contextlib
import re
import sys

from minillm.errors import UserError

__all__ = ["OutOfDeviceMemory", "allocating"]


class OutOfDeviceMemory(UserError, MemoryError):
    """The GPU has less free memory than was asked for."""


@contextlib.contextmanager
def allocating(what, nbytes=None):
    """Turn a failed allocation of CuPy's or torch's inside the block into an OutOfDeviceMemory.

    Parameters
    ----------
    what : str, what the memory is for
    nbytes : int or None, how much is asked for, where it is known
    """
    try:
        yield
    except Exception as error:
        free_and_total = _free_and_total(error)
        if free_and_total is None:
            raise
        free, total = (f"{n / 2**30:.2f} GiB" for n in free_and_total)
        raise OutOfDeviceMemory(
            f"{what}: out of GPU memory: {_asked(error, nbytes)} asked for, {free} of {total} "
            "are free; a smaller batch needs less"
        ) from None


def _free_and_total(error):
    """What the library whose allocation failed knows of the GPU's memory; None: another error."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return torch.cuda.mem_get_info()
    if cupy is not None and isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return cupy.cuda.runtime.memGetInfo()
    return None


def _asked(error, nbytes):
    # torch: "Tried to allocate 20.00 GiB"; CuPy: "Out of memory allocating 21,474,836,480 bytes"
    found = re.search(r"(?:Tried to allocate|allocating) ([\d.,]+ (?:[KMGT]i?B|bytes))", str(error))
    if found:
        return found[1]
    return "more than there is was" if nbytes is None else f"{nbytes:,} bytes"

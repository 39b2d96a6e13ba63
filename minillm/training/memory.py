"""Keep freed memory for the next step instead of giving it back to the system.

A training step allocates the same hundreds of megabytes each time. The C library hands large blocks
straight back, and the system gives them out again zeroed, page by page: about a tenth of a step.
Only glibc (Linux) offers the settings; elsewhere this does nothing.
"""

import ctypes
import sys

# <malloc.h> of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def keep_freed_memory():
    """Let malloc reuse large blocks, from one arena for all threads. Returns whether it could."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    settings = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
    return all(mallopt(name, value) for name, value in settings.items())

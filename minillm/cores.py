"""How much of the machine is ours."""

import os

__all__ = ["available_cores"]


def available_cores():
    """How many threads this process may run at once."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

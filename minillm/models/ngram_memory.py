"""Whether so much memory can be had, asked before it is taken.

Asked by whoever is about to take it: the counts of each length (ngram_counts.py), the model's
numbers (ngram_build.py), and the hash tables (ngram_level.py), which a model has only when it is
first used: they take as much again as the model.
"""

from pathlib import Path

from minillm.errors import UserError

__all__ = ["available_memory", "check_memory"]

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # a container's own limit


def available_memory():
    """How many bytes can still be taken, as far as the system tells; None where it does not."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        limit = int((CGROUP / "memory.max").read_text())
        found.append(limit - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no such files, or "max"
        pass
    return min(found, default=None)


def check_memory(needed, purpose):
    """Refuse work that might take more bytes than there are.

    Raises
    ------
    UserError
        naming the purpose, what it may take and what there is.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise UserError(
            f"{purpose} may take {_words(needed)} of memory, but {_words(available)} are free: "
            "take a lower order or less text"
        )


def _words(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"

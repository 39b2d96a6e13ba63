"""Checked launches and what they find. (The checks themselves are being built.)"""

import contextlib
import contextvars
from dataclasses import dataclass

__all__ = ["Finding", "LineCount", "Report", "active", "checking", "launch_report"]

_active = contextvars.ContextVar("emulator_report", default=None)


def active():
    """The report of the `checking` block we are in, or None."""
    return _active.get()


@dataclass
class Finding:
    kind: str
    file: str
    line: int
    message: str
    count: int = 1


@dataclass
class LineCount:
    file: str
    line: int


class Report:
    def run(self, kernel, grid, block, args, shared_mem):
        raise NotImplementedError("checked launches are not built yet")


@contextlib.contextmanager
def checking(**_):
    token = _active.set(Report())
    try:
        yield _active.get()
    finally:
        _active.reset(token)


def launch_report(kernel, grid, block, args, *, shared_mem=0, **checks):
    with checking(**checks) as report:
        kernel(grid, block, args, shared_mem=shared_mem)
    return report

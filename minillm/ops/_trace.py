"""What `minillm.trace()` collects: one `Step` for every op that ran, printable as a table."""

import copy
import dataclasses
import html
import re
import time
from typing import Any


def describe(value):
    """The shape of an array, or of each array in a nest, as short text."""
    if value is None:
        return "None"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(describe(v) for v in value) + "]"
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else "(" + ", ".join(map(str, shape)) + ")"


def equation(function):
    """The text behind `Equation:` in a function's docstring; continuation lines are indented."""
    found = re.search(r"^\s*Equation: *(.+(?:\n {8,}\S.*)*)", function.__doc__ or "", re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""


@dataclasses.dataclass
class Step:
    """One call of an op: what ran, on which backend, and the shapes that went in and came out."""

    name: str
    equation: str
    backend: str
    depth: int
    inputs: dict[str, str]
    output: str = ""
    seconds: float = 0.0
    values: dict[str, Any] | None = None
    _keep: bool = False
    _start: float = 0.0

    @classmethod
    def begin(cls, state, name, function, positional, args, kwargs):
        given = dict(zip(positional, args, strict=False)) | {
            k: v for k, v in kwargs.items() if v is not None
        }
        keep = state.trace.values
        return cls(
            name=name,
            equation=equation(function),
            backend=state.backend,
            depth=state.depth,
            inputs={k: describe(v) for k, v in given.items()},
            values=copy.deepcopy({k: v for k, v in given.items() if k != "rng"}) if keep else None,
            _keep=keep,
            _start=time.perf_counter(),
        )

    def finish(self, out):
        self.seconds = time.perf_counter() - self._start
        self.output = describe(out)
        if self._keep and self.values is not None:
            self.values["out"] = copy.deepcopy(out)


class Trace(list):
    """The steps of a trace, in the order in which they began."""

    def __init__(self, *, values=False):
        super().__init__()
        self.values = values

    def rows(self):
        for step in self:
            inputs = ", ".join(f"{k} {v}" for k, v in step.inputs.items())
            yield "  " * step.depth + step.name, _clip(inputs), _clip(step.output), step.equation

    def __str__(self):
        rows = [("op", "inputs", "output", "equation"), *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, [*widths, 0], strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in [*widths, 8]))
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook keeps beside the table: the same on every run, no seconds

    def _repr_html_(self):
        def cells(row, tag):
            styled = f"<{tag} style='text-align:left;white-space:pre'>"
            return "<tr>" + "".join(f"{styled}{html.escape(c)}</{tag}>" for c in row) + "</tr>"

        head = cells(("op", "inputs", "output", "equation"), "th")
        return f"<table>{head}{''.join(cells(row, 'td') for row in self.rows())}</table>"


def _clip(text, width=60):
    return text if len(text) <= width else text[: width - 1] + "…"

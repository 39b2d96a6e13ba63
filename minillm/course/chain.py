"""Which value on the way went wrong first: a student's variables beside the reference's, by name.

The idea is that of comparing each intermediate gradient of a network written out by hand with a
trusted one (Karpathy 2022, "Neural Networks: Zero to Hero", part 5).
"""

import ast

import numpy as np

from minillm.course import source
from minillm.course.faults import Fault
from minillm.course.judge import closeness, difference
from minillm.course.questions import Stopped
from minillm.tree import leaves

__all__ = ["Row", "rows", "table"]

OUTPUT = "the output"
HEADS = ("name", "shape", "exact", "max difference")
FIRST = "<- here it goes wrong first"
ROUTE = "another route? the output is right"


class Row:
    """One value: where it stands, and how the two sides' compare.

    `largest` is that of the whole answer: what is tiny beside it may be off by rounding.
    """

    def __init__(self, function, name, mine, theirs, largest=0.0, there=True):
        self.function, self.name, self.note, self.off = function, name, "", ""
        self.shape = str(np.shape(mine))
        if not there or theirs is None:
            self.exact, self.note = "?", "not there under this name"
            return
        mine, theirs = np.asarray(mine), np.asarray(theirs)
        if mine.shape != theirs.shape:
            self.exact, self.note = "no", f"yours has shape {theirs.shape}"
            return
        if mine.dtype.kind == "f" and mine.dtype != theirs.dtype:
            self.note = f"yours is {theirs.dtype}"
        scale = np.asarray(largest, mine.dtype if mine.dtype.kind == "f" else np.float64)
        near = difference((mine, scale), (theirs, scale)) is None
        same = near and np.array_equal(mine, theirs)
        self.exact = "yes" if same else "close" if near else "no"
        self.off = f"{closeness(mine, theirs):.{1 if near else 3}g}"

    @property
    def wrong(self):
        return self.exact == "no"


def rows(questions, failing):
    """The Rows of a failing case, in the order of assignment; [] where nothing can be watched."""
    run, plan = questions.run, questions.plan
    watch = run.watch or {"functions": [], "names": []}
    if not watch["functions"] and run.op is None:
        return []
    seen, came = {}, failing.came
    if watch["functions"]:
        try:
            came = questions.ask(run.drive, failing.case, watch)
        except (Fault, Stopped):
            return []
        seen = {name: dict(values) for name, values in questions.child.seen.items()}
    case = run.op.for_reference(failing.case) if run.op else failing.case
    _, mine = plan.reference.drive(run.drive, case, watch)
    found: list[Row] = []
    settled: dict[str, bool] = {}
    largest = max([0.0, *(np.max(np.abs(x), initial=0) for _, x in _numbers(failing.expected))])
    for function in _in_order(run, watch, mine):
        answer = _answer(run, function, failing.expected, came)
        names = _assigned(plan, run, function, [*watch["names"], *answer])
        for name in [*names, *(name for name in answer if name not in names)]:
            if name in answer:
                found += [
                    Row(function, label, x, theirs, largest, there)
                    for label, x, theirs, there in answer[name]
                ]
            elif name in mine.get(function, {}):
                theirs = seen.get(function, {}).get(name)
                row = Row(function, name, mine[function][name], theirs, largest)
                if name not in settled or (row.wrong and not settled[name]):
                    found.append(row)  # else it was read back from the cache as it was
                settled[name] = row.wrong
    _mark(found, run)
    return found


def table(found):
    """The Rows as lines of text."""
    if not found:
        return []
    cells = [HEADS] + [(row.name, row.shape, row.exact, row.off) for row in found]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines, function = [], None
    for row, cell in zip([None, *found], cells, strict=True):
        if row is not None and row.function != function and row.function:
            function = row.function
            lines.append(f"  in {function}")
        pads = [cell[0].ljust(widths[0]), cell[1].ljust(widths[1]), cell[2].ljust(widths[2])]
        line = "    " + "  ".join([*pads, cell[3].rjust(widths[3])])
        lines.append(f"{line}  {row.note}".rstrip() if row is not None else line.rstrip())
    return lines


def _in_order(run, watch, mine):
    """The watched functions; an op's forward before its backward."""
    if run.op is None:
        return [name for name in watch["functions"] if name in mine]
    return [run.op.name, f"{run.op.name}_backward"][: 1 if run.drive == "forward" else 2]


def _numbers(tree):
    return [(k, x) for k, x in leaves(tree) if isinstance(x, np.ndarray | float) and np.size(x)]


def _assigned(plan, run, function, names):
    """The names in the order in which the reference's function first assigns them."""
    for module in plan.modules.all.values():
        if run.task in module.functions:
            for full, node in source.functions(module.text).items():
                if full.rpartition(".")[2] == function:
                    return _by_line(node, names)
    return list(names)


def _by_line(node, names):
    places: dict[str, tuple[int, int]] = {}
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store) and child.id in names:
            place = (child.lineno, child.col_offset)
            places[child.id] = min(places.get(child.id, place), place)
    return sorted(places, key=lambda name: places[name])


def _answer(run, function, expected, came):
    """{name: parts of Rows} of what a function returns: the output, or the gradients."""
    if run.op is None or not isinstance(came, dict):
        return {}
    names = run.op.gradients if function.endswith("_backward") else ["out"]
    found = {}
    for name in names:
        theirs = dict(leaves(came.get(name), f"{name}."))
        found[name] = [
            (OUTPUT if path == "out" else path, x, theirs.get(path), path in theirs)
            for path, x in leaves(expected.get(name), f"{name}.")
        ]
    return found


def _mark(found, run):
    """Say where it goes wrong first; a forward whose output is right went another way."""
    right = {row.function for row in found if row.name == OUTPUT and row.exact != "no"}
    for row in found:
        if row.wrong and row.function in right and row.name != OUTPUT:
            row.note = row.note or ROUTE
    for row in found:
        if row.wrong and row.function not in right:
            row.note = f"{row.note}  {FIRST}".strip()
            return

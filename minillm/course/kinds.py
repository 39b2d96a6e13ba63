"""The kinds of checks: what a manifest's entry becomes when it runs.

    forward    the output of an op is the reference's
    gradient   one gradient is (`of` names the parameter)
    pair       the output and all gradients together
    edges      outputs and gradients where a dimension is 1, or there are no leading ones
    calls      float32 stays float32, gaps in memory do no harm, a second call gives the same
    cost       the backward of an op on many elements takes less than 50 times its forward; what
               counts gradients holds only where this holds, or a numerical gradient would pass
               what is said of an op takes arguments that `draw`, of cases.py, draws, where named
    cause      a file with a mistake names it, and is mended: the check named `of` holds, bugs.py
    custom     `make`, `drive` and `judge` name functions of the assignment's cases and drive.py

A manifest names a kind for each check of its own; an op gets forward to cost without being asked.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minillm.course import bugs
from minillm.course.answers import narrowed, picked, widened, written
from minillm.course.draw import EDGES, OpCases
from minillm.course.judge import difference
from minillm.course.steady import steady
from minillm.errors import UserError

__all__ = ["Runnable", "runnables"]

SIZES = (1, 2, 3, 4, 6)  # of the cases that a check draws, small ones first
FEWEST = 20_000  # elements of the first argument, in a check of cost
SHARES = {"forward": 0.3, "gradient": 0.4, "edges": 0.1, "calls": 0.1, "cost": 0.1}
OF_OPS = (*SHARES, "pair")


@dataclass
class Runnable:
    """A check, ready to run.

    Attributes
    ----------
    task, name, title, points, visibility : as in the manifest
    sizes : of the cases, in their order
    make : (rng, size) -> case
    drive : the driver's name
    expected : case -> tree, the reference's answer
    judge : (case, expected, came) -> what is wrong, in one line, or None
    watch : {"functions", "names"}, the values on the way, or None
    pick : the entries of the answer that this check looks at, or None for all
    timed : whether this is a check of cost, which run.py runs its own way
    cost : the check of cost that a check of gradients must hold too, or None
    op : OpCases, where the check is one of an op's pair
    """

    task: str
    name: str
    title: str
    points: float
    visibility: str
    make: Callable[[np.random.Generator, int], dict]
    drive: str
    expected: Callable[[dict], Any]
    judge: Callable[[dict, Any, Any], str | None]
    sizes: tuple[int, ...] = SIZES
    watch: dict | None = None
    pick: tuple[str, ...] | None = None
    timed: bool = False
    cost: "Runnable | None" = None
    op: OpCases | None = None
    seconds: float = 10.0
    settings: dict = field(default_factory=dict)

    @property
    def draws(self):
        """Whose cases these are: all that measure an op's cost share them."""
        return f"cost of {self.op.name}" if self.timed and self.op else self.name


def runnables(assignment, task, reference, variant=None):
    """The checks of one task, as Runnables."""
    ops = _ops(assignment, task, reference, variant or {})
    entries = _usual(task, ops)
    entries += [(c.name, c.kind, c.title, c.points, c.settings, c.visibility) for c in task.checks]
    made: dict[str, Runnable] = {}
    for entry in entries:
        build = _cause if entry[1] == "cause" else _runnable
        made[entry[0]] = build(task, made if entry[1] == "cause" else ops, reference, *entry)
    return list(made.values())


def _ops(assignment, task, reference, variant):
    """The OpCases of a task's pairs, the main one last."""
    found = []
    for dotted in task.parts:
        flat = dotted.rpartition(".")[2]
        function = getattr(reference(flat), flat, None) if flat in reference.modules.all else None
        if callable(getattr(function, "backward", None)):
            own = reference.function(task.draw[flat]) if flat in task.draw else None
            found.append(OpCases(function, flat, task, variant.get(task.name), own))
    return found


def _usual(task, ops):
    """The checks of an op, as manifest entries, that share out the task's points."""
    if not task.points:
        return []
    if not ops:
        raise UserError(f"task {task.name}: points are for ops; give its checks one by one")
    entries, shares = [], []
    for op in ops:
        label = f"{op.name} " if len(ops) > 1 else ""
        for kind, share in SHARES.items():
            if kind == "cost" and not large_sizes(task, op):
                continue
            ofs = op.positional if kind == "gradient" else [None]
            for of in ofs:
                settings = {"op": op.name} | ({"of": of} if of else {})
                name = label + (f"d{of}" if of else kind)
                entries.append((name, kind, "", settings, "visible"))
                shares.append(share / len(ofs))
    points = _shared_out(task.points, shares)
    return [(*entry[:3], worth, *entry[3:]) for entry, worth in zip(entries, points, strict=True)]


def _shared_out(points, shares):
    """Points by shares, each a whole number of them (or of halves, where there are too few)."""
    unit = 1 if points >= 2 * len(shares) else 0.5
    exact = [points / unit * share / sum(shares) for share in shares]
    whole = [max(1, int(x)) for x in exact]
    by_rest = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in by_rest[: max(0, round(points / unit) - sum(whole))]:
        whole[i] += 1
    whole[0] += round(points / unit) - sum(whole)
    return [x * unit for x in whole]


def large_sizes(task, op):
    """The sizes of an op's check of cost; a task of several ops may give each its own."""
    return task.large.get(op.name, task.large)


def _runnable(task, ops, reference, name, kind, title, points, settings, visibility):
    shared = {"task": task.name, "name": name, "points": points, "visibility": visibility}
    shared |= {"seconds": settings.get("seconds", task.seconds), "settings": settings}
    if kind == "custom":
        return _custom(task, reference, shared, title, settings)
    by_name = {op.name: op for op in ops}
    op = by_name.get(settings.get("op", ops[-1].name if ops else ""))
    if op is None or kind not in OF_OPS:
        known = ", ".join([*OF_OPS, "cause", "custom"])
        raise UserError(f"task {task.name}: check {name}: kind {kind!r}; known for an op: {known}")
    run = _of_op(task, reference, op, kind, shared, title, settings)
    if "draw" in settings:  # with the cost of the op's usual arguments, which is measured once
        drawn = copy.copy(op)
        drawn.own = reference.function(settings["draw"])
        usual, run = run, _of_op(task, reference, drawn, kind, shared, title, settings)
        run.cost = usual.cost
    return run


def _of_op(task, reference, op, kind, shared, title, settings):
    if "draw" in settings:
        op = op.drawn_by(reference.function(settings["draw"]))
    names = [op.name, f"{op.name}_backward"]
    watch = {"functions": names, "names": list(task.chain)} if task.chain else None
    of = settings.get("of")

    def make(rng, size):
        if kind == "cost":
            case = op.draw(rng, 5, large=large_sizes(task, op), none=False)
            if case["args"][0].size < FEWEST:
                raise UserError(f"task {task.name}: large gives {op.name} few elements")
            return case
        how: dict[str, object] = {}
        if kind == "edges":
            how = {"edge": EDGES[size - 1]}
        if kind == "calls":
            how = {"dtype": np.float32 if size == 1 else np.float64, "none": False}
            size = 3
        return steady(lambda: op.draw(rng, size, **how), answer)

    def answer(case):
        with np.errstate(invalid="ignore", over="ignore"):
            return reference.drive("pair", op.for_reference(case))[0]

    def expected(case):
        case = op.for_reference(case)
        wide = widened(case)
        result, _ = reference.drive("pair", wide if kind == "calls" else case)
        return op.for_student(narrowed(result, case) if kind == "calls" else result)

    titles = {
        "forward": f"the output of {op.name}",
        "pair": f"the output of {op.name} and its gradients",
        "gradient": f"d{of}, the gradient of {of}",
        "edges": f"{op.name} where a dimension is 1, with none or many leading ones",
        "calls": f"{op.name} of float32, of arrays with gaps in memory, twice of the same",
        "cost": f"what the backward of {op.name} costs on many elements",
    }
    drivers = {"calls": "calls", "forward": "forward"}
    pick = {"forward": ("out",), "gradient": (f"d{of}",)}.get(kind)

    def judge(case, expected, came):
        inputs = dict(zip(case["names"], case["args"], strict=True)) | {"dout": case["dout"]}
        whole = expected
        if pick:
            expected, came = picked(expected, pick), picked(came, pick)
        if kind == "calls" and isinstance(came, dict) and came.get("written"):
            return written([*case["names"], "dout"], came["written"])
        return difference(expected, came, inputs, whole)

    cost = None
    if kind in ("gradient", "pair", "edges", "calls") and large_sizes(task, op):
        own = shared | {"name": f"cost of {op.name}", "points": 0}
        cost = _of_op(task, reference, op, "cost", own, "", {})
    return Runnable(
        **shared, title=title or titles[kind], cost=cost, make=make,
        drive=drivers.get(kind, "pair"),
        expected=expected, judge=judge, watch=watch, pick=pick, timed=kind == "cost", op=op,
        sizes={"cost": (5,), "calls": (1, 2, 3), "edges": (1, 2, 3, 4, 5)}.get(kind, SIZES),
    )  # fmt: skip


def _cause(task, made, reference, name, kind, title, points, settings, visibility):
    """The check that a file names its mistake, where another check of it holds."""
    mended = made.get(settings.get("of", ""), next(iter(made.values()), None))
    if mended is None or not task.bugs:
        raise UserError(
            f"task {task.name}: check {name}: cause follows a check of a task with bugs"
        )
    module = task.parts[0].rpartition(".")[2]

    def make(rng, size):
        return {"module": module, "drive": mended.drive, "case": mended.make(rng, size)}

    def expected(case):
        return mended.expected(case["case"])

    return Runnable(
        task.name, name, title or "the cause is named, of a file that is mended", points,
        visibility, make=make, drive="with_cause", expected=expected,
        judge=bugs.cause_judge(task.causes, mended.judge), sizes=mended.sizes,
        seconds=mended.seconds, settings=settings,
    )  # fmt: skip


def _custom(task, reference, shared, title, settings):
    make = reference.function(settings["make"])
    judge_by = reference.function(settings["judge"]) if "judge" in settings else None
    driver = settings.get("drive", "call")

    def expected(case):
        return reference.drive(driver, case)[0] if settings.get("reference", True) else None

    def judge(case, expected, came):
        return judge_by(case, expected, came) if judge_by else difference(expected, came)

    watch = settings.get("watch")
    return Runnable(
        **shared, title=title or shared["name"], make=make, drive=driver, expected=expected,
        judge=judge, sizes=tuple(settings.get("sizes", SIZES)),
        watch={"functions": watch, "names": list(task.chain)} if watch else None,
    )  # fmt: skip

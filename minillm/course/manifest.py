"""An assignment is a manifest: which parts of minillm are taken out, what is asked, its points.

    assignments/hw3/assignment.toml   what this file reads, see `load`
    assignments/hw3/cases.py          draws cases and judges answers, where shapes are not enough
    assignments/hw3/drive.py          how a student's code is called, where drive.py does not do
    assignments/hw3/changes.md        what changed from version to version

There is no second copy of a solution: the manifest names modules of minillm and functions in them.

    title = "Backpropagation by hand"
    version = "1.0"
    hours = 6                           # a student's, estimated
    packages = ["numpy"]                # what the student's process may import
    goals = ["..."]
    introduction = "Markdown"
    [[misconceptions]]
    belief = "..."
    truth = "..."

    [[task]]
    name = "layer_norm"
    title = "Layer normalisation"
    parts = ["minillm.ops.layer_norm"]  # modules; functions: by default each module's op pair
    functions = {"minillm.ops.layer_norm" = ["layer_norm", "layer_norm_backward"]}
    prose = "Markdown"
    hints = ["...", "..."]              # from a nudge to nearly there
    chain = ["centred", "inv_std"]      # values on the way that `check` compares by name
    points = 30                         # shared out among the usual checks of an op ...
    large = {"..." = [100], C = 1000}   # (the sizes at which its cost is measured)
    options = {eps = [1e-5, 0.1]}       # keyword arguments to draw from
    arguments = {targets = "(...) integers in [0, V)"}   # where the docstring does not say it
    draw = {lstm = "stack"}             # a function of cases.py that draws an op's arguments

    [[task.check]]                      # ... or of one's own: see kinds.py
    name = "sums to one"
    kind = "custom"
    title = "each row sums to one"
    points = 4
    make, drive, judge = "rows", "call", "sums"          # functions of cases.py and drive.py

    causes = ["overwritten"]            # of a task that is handed out with a mistake in it, and
    [[task.bug]]                        # what the mistake is: see bugs.py
    function, right, wrong = "...", "...", "..."

    [[written]]
    question = "Markdown"
    points = 5
    rubric = [{points = 2, text = "..."}]

    [handout]
    imports = {"minillm.ops.flash_attention" = "scaled_dot_product_attention"}
    omit = {"minillm.tokenizers.bpe_simple" = ["train_simple"]}
    give = ["minillm.models.gpt"]       # modules to hand out whole that no part imports
    allow = ["x = x + 1"]               # statements that a given file may share with a solution

    [variants]                          # one value each for a student, where they are asked for
    softmax = {axis = [0, 1, -1]}       # another default of a keyword argument
"""

import importlib.resources
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from minillm.course.bugs import CAUSES, Bug
from minillm.errors import UserError, require

__all__ = ["Assignment", "Check", "Misconception", "Task", "Written", "load", "names", "parse"]

VISIBILITIES = ("visible", "after_due_date", "after_published", "hidden")
FOLDER = importlib.resources.files("minillm.course") / "assignments"


@dataclass(frozen=True)
class Check:
    """One check as the manifest has it; kinds.py makes it run."""

    name: str
    kind: str
    title: str
    points: float
    settings: dict
    visibility: str = "visible"


@dataclass(frozen=True)
class Task:
    """One part of the work: functions to write, and how they are checked."""

    name: str
    title: str
    parts: tuple[str, ...]
    functions: dict[str, tuple[str, ...]]  # dotted module -> qualified names; () for an op's pair
    prose: str = ""
    hints: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    points: float = 0.0
    large: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)
    draw: dict = field(default_factory=dict)
    seconds: float = 4.0  # of CPU time, for each answer
    checks: tuple[Check, ...] = ()
    bugs: tuple[Bug, ...] = ()
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Misconception:
    belief: str
    truth: str


@dataclass(frozen=True)
class Written:
    """A question for a person to read the answer of."""

    question: str
    points: float
    rubric: tuple[dict, ...]


@dataclass(frozen=True)
class Assignment:
    """A whole assignment; `folder` holds its manifest and what belongs to it."""

    name: str
    folder: Path
    title: str
    version: str
    hours: float
    goals: tuple[str, ...]
    introduction: str
    tasks: tuple[Task, ...]
    packages: tuple[str, ...] = ("numpy",)
    memory: float = 2.0  # GB of a student's process
    processes: int = 0  # that a student's process may start
    misconceptions: tuple[Misconception, ...] = ()
    written: tuple[Written, ...] = ()
    handout: dict = field(default_factory=dict)
    variants: dict = field(default_factory=dict)

    def task(self, name):
        """The task of a name.

        Raises
        ------
        UserError
            listing the tasks, where there is none of it.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        listed = ", ".join(task.name for task in self.tasks)
        raise UserError(f"{self.name} has no task {name!r}; it has: {listed}")


def names():
    """The assignments that there are, in their order."""
    found = [p.name for p in FOLDER.iterdir() if (p / "assignment.toml").is_file()]
    return sorted(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] or [0])


def load(name):
    """The assignment of a name, such as "hw3", or of a folder that holds an assignment.toml.

    Raises
    ------
    UserError
        for an unknown name, or a manifest that is none, naming the entry.
    """
    folder = Path(str(FOLDER)) / name
    if not re.fullmatch(r"\w+", name):
        folder = Path(name)
    path = folder / "assignment.toml"
    if not path.is_file():
        raise UserError(f"there is no assignment {name!r}; there are: {', '.join(names())}")
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    try:
        return parse(folder.resolve().name, folder.resolve(), table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def parse(name, folder, table):
    """The assignment of a manifest's table.

    Raises
    ------
    UserError
        naming the entry that is missing, unknown, or of the wrong type.
    """
    take = _Taker("", table)
    tasks = tuple(_task(i, entry) for i, entry in enumerate(take("task", list)))
    require("task", tasks, tasks, "at least one task")
    for what, found in (("task", [t.name for t in tasks]),):
        require(f"{what} names", found, len(set(found)) == len(found), "all different")
    assignment = Assignment(
        name=name,
        folder=folder,
        title=take("title", str),
        version=take("version", str),
        hours=take("hours", (int, float)),
        goals=tuple(take("goals", list)),
        introduction=take("introduction", str).strip(),
        tasks=tasks,
        packages=tuple(take("packages", list, ["numpy"])),
        memory=take("memory", (int, float), 2.0),
        processes=take("processes", int, 0),
        misconceptions=tuple(
            Misconception(entry("belief", str), entry("truth", str))
            for entry in _each("misconceptions", take("misconceptions", list, []))
        ),
        written=tuple(
            Written(
                entry("question", str).strip(),
                entry("points", (int, float)),
                tuple(entry("rubric", list)),
            )
            for entry in _each("written", take("written", list, []))
        ),
        handout=take("handout", dict, {}),
        variants=take("variants", dict, {}),
    )
    take.nothing_left()
    unknown = assignment.handout.keys() - {"imports", "omit", "give", "allow"}
    require("handout", sorted(unknown), not unknown, "a table of imports, omit, give and allow")
    unknown = assignment.variants.keys() - {task.name for task in tasks}
    require("variants", sorted(unknown), not unknown, "a table of tasks' names")
    return assignment


def _task(index, table):
    take = _Taker(f"task {index + 1}: ", table)
    name = take("name", str)
    take.label = f"task {name}: "
    parts = tuple(take("parts", list))
    chosen = take("functions", dict, {})
    require("functions", sorted(chosen), chosen.keys() <= set(parts), "a table of the parts")
    checks = tuple(
        Check(
            name=entry("name", str, entry.table.get("kind", "")),
            kind=entry("kind", str),
            title=entry("title", str, ""),
            points=entry("points", (int, float)),
            visibility=entry("visibility", str, "visible"),
            settings=entry.rest(),
        )
        for entry in _each(f"task {name}: check", take("check", list, []))
    )
    for check in checks:
        require("points", check.points, check.points > 0, "above 0")
        known = check.visibility in VISIBILITIES
        require("visibility", check.visibility, known, " or ".join(VISIBILITIES))
    task = Task(
        name=name,
        title=take("title", str),
        parts=parts,
        functions={part: tuple(chosen.get(part, ())) for part in parts},
        prose=take("prose", str).strip(),
        hints=tuple(take("hints", list, [])),
        chain=tuple(take("chain", list, [])),
        points=take("points", (int, float), 0),
        large=take("large", dict, {}),
        options=take("options", dict, {}),
        arguments=take("arguments", dict, {}),
        draw=take("draw", dict, {}),
        seconds=take("seconds", (int, float), 4.0),
        checks=checks,
        bugs=tuple(
            Bug(entry("function", str), entry("right", str).strip(), entry("wrong", str).strip())
            for entry in _each(f"task {name}: bug", take("bug", list, []))
        ),
        causes=tuple(take("causes", list, [])),
    )
    take.nothing_left()
    require(f"task {name}", "neither", task.points or checks, "points for an op, or checks")
    if task.bugs or task.causes:
        known = bool(task.bugs and task.causes) and set(task.causes) <= CAUSES.keys()
        require(f"task {name}: causes", task.causes, known, f"of {', '.join(CAUSES)}, for a bug")
        require(f"task {name}: parts", task.parts, len(task.parts) == 1, "one module for a bug")
    return task


class _Taker:
    """Takes entries out of a table by name and type, and knows which are left."""

    def __init__(self, label, table):
        require(label.rstrip(": ") or "the manifest", table, isinstance(table, dict), "a table")
        self.label, self.table, self.taken = label, table, set()

    def __call__(self, key, kind, *default):
        self.taken.add(key)
        if key not in self.table:
            if default:
                return default[0]
            raise UserError(f"{self.label}{key} is missing")
        value = self.table[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = {str: "a text", int: "a number", list: "an array", dict: "a table"}
            raise UserError(f"{self.label}{key} must be {expected[kinds[0]]}, got {value!r:.60}")
        return value

    def rest(self):
        """What nothing has asked for."""
        return {key: value for key, value in self.table.items() if key not in self.taken}

    def nothing_left(self):
        unknown = self.rest()
        if unknown:
            known = ", ".join(sorted(self.taken))
            raise UserError(f"{self.label}unknown entry {sorted(unknown)[0]!r}; known: {known}")


def _each(label, tables):
    return [_Taker(f"{label} {i + 1}: ", table) for i, table in enumerate(tables)]

"""An assignment's page for instructors: what students read, and the solution beside it.

The solution is no copy: the page names lines of the reference, which Sphinx takes in when it builds
the site (docs/tools/course.py).
"""

import difflib
import re
import textwrap
from pathlib import Path

from minillm.course.kinds import runnables
from minillm.course.modules import Modules
from minillm.course.reference import Reference

__all__ = ["checks_of", "goes_with", "page_name", "points_of", "walkthrough"]

CATCHES = {
    "forward": "a wrong output, from small inputs on; all dimensions differ, so that an exchanged "
    "axis shows",
    "pair": "a wrong output or a wrong gradient",
    "gradient": "a wrong gradient, for a random one from above and parameters off their initial "
    "values; a numerical one, by its cost",
    "edges": "what is written for one number of dimensions: a dimension of 1 that broadcasts, no "
    "leading dimension, three of them, a square",
    "calls": "float32 that turns into float64, an input that is written to, arrays with gaps in "
    "memory, something kept from one call to the next",
    "cost": "a numerical gradient, a loop over elements, a Jacobian written out",
    "cause": "a repair without a diagnosis: the file must name its mistake, and be mended",
}


def checks_of(assignment):
    """{task's name: its Runnables}, as a student without a variant meets them."""
    reference = Reference(assignment, Modules(assignment))
    return {task.name: runnables(assignment, task, reference) for task in assignment.tasks}


def points_of(assignment, checks):
    """(points from checks, points of the written part)."""
    by_checks = sum(run.points for runs in checks.values() for run in runs)
    return by_checks, sum(question.points for question in assignment.written)


def goes_with(assignment, root, beside=()):
    """Paths in the repository that belong to an assignment: (notebooks, pages of docs/).

    They are those of `beside`, those that its texts name, and the derivations of its parts.
    """
    texts = "\n".join([assignment.introduction, *(task.prose for task in assignment.tasks)])
    named = [*beside, *re.findall(r"\b((?:notebooks|docs)/[\w/]+\.(?:ipynb|md))", texts)]
    pages = [path for path in named if path.startswith("docs/")]
    for task in assignment.tasks:
        pages += [page for part in task.parts if (page := _derivation(part, root))]
    notebooks = [path for path in named if path.startswith("notebooks/")]
    return sorted(set(notebooks)), list(dict.fromkeys(pages))


def page_name(path):
    """What a link to a page is called: its name, or its folder's for an index."""
    return Path(path).parent.name if Path(path).stem == "index" else Path(path).stem


def walkthrough(assignment, root, *, up="../../..", wrong=None):
    """The page, as Markdown for MyST.

    Parameters
    ----------
    assignment : Assignment
    root : path of the repository
    up : from the page's folder to the root
    wrong : {task: {check: names of wrong solutions that it is the first to catch}}
    """
    checks = checks_of(assignment)
    by_checks, written = points_of(assignment, checks)
    worth = f"{by_checks:g} points by checks" + (f", {written:g} written" if written else "")
    parts = [
        f"# {assignment.name}: {assignment.title}",
        f"Version {assignment.version}, about {assignment.hours:g} hours, {worth}. This page holds "
        "the solutions: it is for those who teach.",
        "## Goals\n\n" + _list(assignment.goals),
        "## What students read first\n\n" + _linked(assignment.introduction, up),
    ]
    if assignment.misconceptions:
        rows = [(m.belief, m.truth) for m in assignment.misconceptions]
        parts.append("## What is often believed\n\n" + _table(("belief", "truth"), rows))
    modules = Modules(assignment)
    for number, task in enumerate(assignment.tasks, 1):
        runs = checks[task.name]
        parts.append(f"## {number}. {task.title} ({_sum(runs)} points)")
        parts.append(_linked(task.prose, up))
        parts += _solution(task, modules, Path(root), up)
        parts.append("### Checks\n\n" + _checks(task, runs, (wrong or {}).get(task.name, {})))
        if task.hints:
            parts.append("### Hints, one at a time\n\n" + _list(task.hints, numbered=True))
    if assignment.written:
        parts.append("## Written part")
        parts += [_question(i, question) for i, question in enumerate(assignment.written, 1)]
    changes = assignment.folder / "changes.md"
    if changes.is_file():
        told = changes.read_text(encoding="utf-8").partition("\n")[2].strip()
        parts.append("## Changes\n\n" + re.sub(r"^#", "##", told, flags=re.MULTILINE))
    return "\n\n".join(parts) + "\n"


def _solution(task, modules, root, up):
    """The reference's own lines, module by module, and where they are derived."""
    parts = ["### Solution"]
    if task.bugs:
        names = ", ".join(f"`{name}`" for name in task.causes)
        parts.append(f"The mistake, and the line that mends it; named {names}:")
        parts += [f"```diff\n{_edit(bug)}\n```" for bug in task.bugs]
    for module in modules.all.values():
        names = module.functions.get(task.name, ())
        if not names:
            continue
        path = _path(module.dotted, root)
        derivation = _derivation(module.dotted, root)
        told = f"From [`{path}`]({up}/{path})"
        if derivation:
            told += f", derived in [{Path(derivation).stem}]({up}/{derivation})"
        parts.append(told + ":")
        if module.cuda:
            parts.append(f"```{{literalinclude}} {up}/{path}\n:language: cuda\n```")
            continue
        parts += [f"```{{literalinclude}} {up}/{path}\n:pyobject: {name}\n```" for name in names]
    return parts


def _checks(task, runs, wrong):
    kinds = {check.name: check.kind for check in task.checks}
    rows = []
    for run in runs:
        kind = kinds.get(run.name) or _usual_kind(run)
        caught = [CATCHES[kind]] if kind in CATCHES else []
        examples = wrong.get(run.name, ())
        caught += ["for one: " + "; ".join(examples)] if examples else []
        shown = "" if run.visibility == "visible" else f" ({run.visibility.replace('_', ' ')})"
        rows.append((f"{run.title}{shown}", f"{run.points:g}", ". ".join(caught)))
    return _table(("check", "points", "what it catches"), rows)


def _usual_kind(run):
    """The kind of a check that an op has without being asked."""
    last = run.name.rpartition(" ")[2]
    return last if last in CATCHES else "gradient"


def _question(number, question):
    rows = [(f"{line['points']:g}", line["text"]) for line in question.rubric]
    text = f"### Question {number} ({question.points:g} points)\n\n{question.question}"
    return text + ("\n\n" + _table(("points", "for"), rows) if rows else "")


def _edit(bug):
    right, wrong = (textwrap.dedent(f"    {text}").split("\n") for text in (bug.right, bug.wrong))
    lines = difflib.ndiff(wrong, right)
    return "\n".join(line for line in lines if not line.startswith("?"))


def _path(dotted, root):
    """Where a module, or a file of CUDA C, lies in the repository."""
    path = dotted if dotted.endswith(".cu") else dotted.replace(".", "/") + ".py"
    return path if (root / path).is_file() else f"kernels/{path}"


def _derivation(dotted, root):
    """docs/derivations/NAME.md or docs/models/NAME.md of a module, or None."""
    name = dotted.rpartition(".")[2]
    for folder in ("derivations", "models"):
        path = f"docs/{folder}/{name}.md"
        if (Path(root) / path).is_file():
            return path
    return None


def _linked(text, up):
    """A text whose paths in the repository are links."""

    def link(match):
        path = match[1]
        return f"[{page_name(path)}]({up}/{path})"

    pattern = r"(?<![(/\w])`?((?:notebooks|docs)/[\w/]+\.(?:ipynb|md))`?"
    return re.sub(pattern, link, text)


def _sum(runs):
    return f"{sum(run.points for run in runs):g}"


def _list(items, numbered=False):
    return "\n".join(f"{i}. {x}" if numbered else f"- {x}" for i, x in enumerate(items, 1))


def _table(head, rows):
    cells = [head, ["---"] * len(head), *([_cell(x) for x in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _cell(text):
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))

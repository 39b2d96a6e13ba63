"""Feedback for one student: what holds, what does not and why, and what to try next.

The same sections as Markdown (what a terminal and a text editor show) and as one HTML page
(feedback_page.py). Whatever came out of the student's process is shown as text and never as markup.
"""

from dataclasses import dataclass

from minillm.course import results
from minillm.course.manifest import Task
from minillm.course.plain import fenced, inline, one_line

__all__ = [
    "SAID",
    "Section",
    "headline",
    "markdown",
    "named",
    "number",
    "reason",
    "sections",
    "variant_text",
    "words",
]

SAID = {  # a status in words, for the student
    results.HOLDS: "holds",
    results.FAILS: "does not hold",
    results.STUB: "not written yet",
    results.MISSING: "not handed in",
    results.CRASHED: "your code stopped",
    results.TIME: "took too long",
    results.MEMORY: "took too much memory",
    results.REFUSED: "refused",
    results.INCONCLUSIVE: "undecided: ours to fix",
    results.NOT_RUN: "not run",
}
OURS = (
    "Something went wrong on our side, so this check says nothing about your work. It earns no "
    "points for now; your instructor's summary lists it as theirs to fix and to run again."
)


@dataclass
class Section:
    """One task in a student's feedback.

    Attributes
    ----------
    task : Task of the manifest
    shown : list of CheckResult, that the student may see
    hidden : list of CheckResult, of which only the points are shown
    """

    task: Task
    shown: list
    hidden: list

    @property
    def earned(self):
        return sum(result.earned for result in self.shown + self.hidden)

    @property
    def points(self):
        return sum(result.points for result in self.shown + self.hidden)

    @property
    def to_explain(self):
        """[(titles, result)] of what was run and does not hold, or is ours; the same told once."""
        quiet = (results.HOLDS, results.NOT_RUN)
        groups: dict[tuple, list] = {}
        for result in self.shown:
            if result.status not in quiet:
                # what was printed grows from check to check, and is shown once
                detail = result.detail if result.status == results.FAILS else ""
                key = result.status, result.reason, detail
                groups.setdefault(key, []).append(result)
        return [([result.title for result in group], group[0]) for group in groups.values()]

    @property
    def hints(self):
        """The manifest's, where something of the student's does not hold."""
        theirs = (results.FAILS, results.STUB, results.CRASHED, results.TIME, results.MEMORY)
        failed = any(result.status in theirs for result in self.shown + self.hidden)
        return self.task.hints if failed else ()


def sections(assignment, grade):
    """One Section a task."""
    hidden = {
        (task.name, check.name)
        for task in assignment.tasks
        for check in task.checks
        if check.visibility == "hidden"
    }
    found = []
    for task in assignment.tasks:
        own = [result for result in grade.results if result.task == task.name]
        keys = [(result.task, result.name) in hidden for result in own]
        found.append(
            Section(
                task,
                [result for result, key in zip(own, keys, strict=True) if not key],
                [result for result, key in zip(own, keys, strict=True) if key],
            )
        )
    return found


def named(titles):
    """The checks that a paragraph is about, in few words."""
    if len(titles) > 3:
        return f"{len(titles)} of these checks"
    return "; ".join(one_line(title) for title in titles)


def number(value):
    """Points for people: 3 and 2.5, never 2.9999999."""
    return f"{round(float(value), 2):g}"


def words(result):
    """A check's status, as the student reads it."""
    return SAID.get(result.status, result.status)


def headline(grade):
    """How many points, and of how many, from checks that were run."""
    text = f"{number(grade.earned)} of {number(grade.points)} points from the checks"
    idle = sum(result.status == results.NOT_RUN for result in grade.results)
    if idle:
        text += f"; {idle} of {len(grade.results)} checks were not run"
    return text


def reason(result):
    """One line on what happened, ours for what is ours to fix."""
    if result.status == results.INCONCLUSIVE:
        return f"{OURS} What happened: {one_line(result.reason)}"
    return one_line(result.reason)


def markdown(assignment, grade, notes=()):
    """The feedback as Markdown.

    Parameters
    ----------
    assignment : Assignment
    grade : Grade
    notes : lines on the files that were handed in
    """
    title = inline(assignment.title)
    parts = [
        f"# {title}: feedback",
        f"**{inline(grade.student)}** ({assignment.name}, version {inline(grade.version)}): "
        f"**{headline(grade)}**.",
    ]
    if notes:
        parts += ["## Your files", "\n".join(f"- {inline(note)}" for note in notes)]
    tasks = sections(assignment, grade)
    parts.append(_table(("Task", "Points"), [(_title(s), _of(s)) for s in tasks], "-:"))
    for section in tasks:
        parts += _task(section)
    if assignment.written:
        parts += _written(assignment)
    parts += ["## How this was run", _how(grade)]
    return "\n\n".join(parts) + "\n"


def _title(section):
    return inline(section.task.title)


def _of(thing):
    return f"{number(thing.earned)} of {number(thing.points)}"


def _task(section):
    parts = [f"## {_title(section)}: {_of(section)} points"]
    rows = [(inline(r.title), inline(words(r)), _of(r)) for r in section.shown]
    if section.hidden:
        earned = sum(r.earned for r in section.hidden)
        points = sum(r.points for r in section.hidden)
        count = len(section.hidden)
        rows.append((f"{count} not shown", "", f"{number(earned)} of {number(points)}"))
    parts.append(_table(("Check", "What happened", "Points"), rows, "-:"))
    for titles, result in section.to_explain:
        parts.append(f"### {inline(named(titles))}: {inline(words(result))}")
        if result.reason or result.status == results.INCONCLUSIVE:
            parts.append(inline(reason(result), 800))
        if result.detail.strip():
            parts.append(fenced(result.detail))
    if section.hints:
        hints = "\n".join(f"{i}. {hint.strip()}" for i, hint in enumerate(section.hints, 1))
        parts += ["### Hints, from a nudge to nearly there", hints]
    return parts


def _written(assignment):
    """The part that a person reads, with room for the points."""
    parts = ["## Written part", "A person reads this part; its points are not in the number above."]
    for index, question in enumerate(assignment.written, 1):
        parts.append(f"### Question {index}: ___ of {number(question.points)} points")
        parts.append(question.question)
        rows = [
            (str(row.get("text", "")).replace("|", "\\|"), "", f"of {number(row.get('points', 0))}")
            for row in question.rubric
        ]
        if rows:
            parts.append(_table(("For", "Given", "Points"), rows, "-:"))
    return parts


def _how(grade):
    lines = [
        f"- {inline(grade.isolation, 600)}" if grade.isolation else "",
        f"- It took {grade.seconds:.1f} s. The cases were drawn when this was graded: an answer "
        "that fits only the public cases does not fit these.",
    ]
    if grade.variant:
        lines.append(f"- Your variant: {inline(variant_text(grade.variant))}")
    return "\n".join(line for line in lines if line)


def variant_text(variant):
    """{"softmax": {"axis": 0}} as "softmax: axis = 0"."""
    return "; ".join(
        f"{task}: " + ", ".join(f"{key} = {value!r}" for key, value in table.items())
        for task, table in variant.items()
    )


def _table(head, rows, *right):
    """A Markdown table; the last columns are aligned as `right` says."""
    rules = ["---"] * (len(head) - len(right)) + list(right)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows))

"""What `minillm course check` prints: what holds, what fails first and why, and what did not."""

import json
import sys
import textwrap
from pathlib import Path

from minillm.course import results
from minillm.course.feedback import number
from minillm.course.plain import bounded, clean, one_line
from minillm.errors import UserError
from minillm.files import write_text

__all__ = ["HINTS", "next_hints", "summary", "text"]

WIDTH = 90
HINTS = ".hints.json"  # in a student's folder: how many hints of each task they have asked for
MARKS = {results.HOLDS: "✓", results.STUB: "·", results.MISSING: "·", results.INCONCLUSIVE: "?"}
FAILED = "✗"
PLAIN = {"✓": "ok", "✗": "X", "·": "-", "?": "?"}  # where the output knows ASCII only
COLOURS = {"✓": "green", "✗": "red", "?": "yellow"}
SAYS_IT_ALL = (results.HOLDS, results.NOT_RUN)
ENDS = {  # a status in the summary: one check, more than one
    results.FAILS: ("fails", "fail"),
    results.STUB: ("is not implemented", "are not implemented"),
    results.MISSING: ("is not handed in", "are not handed in"),
    results.CRASHED: ("stops with an error", "stop with an error"),
    results.TIME: ("takes too long", "take too long"),
    results.MEMORY: ("takes too much memory", "take too much memory"),
    results.REFUSED: ("is refused", "are refused"),
    results.INCONCLUSIVE: ("could not be decided", "could not be decided"),
}


def text(grade, assignment, *, hints=None, colour=None, plain=None):
    """The whole text.

    Parameters
    ----------
    grade : Grade
    assignment : Assignment
    hints : {task: the hints asked for so far}, of `next_hints`
    colour : bool, None for where the output is a terminal
    plain : bool, ASCII marks; None for where the output can hold no others
    """
    colour = sys.stdout.isatty() if colour is None else colour
    plain = not _writes(sys.stdout, "✓✗·") if plain is None else plain
    hints = hints or {}
    parts = [f"{assignment.title} ({assignment.name} {assignment.version})"]
    for task in assignment.tasks:
        ran = [r for r in grade.results if r.task == task.name and r.status != results.NOT_RUN]
        if ran:
            parts.append(_task(task, ran, hints.get(task.name, ()), colour, plain))
    parts.append("\n".join(_folded(summary(grade), "")))
    parts.append("\n".join(_end(grade, assignment, hints)))
    whole = "\n\n".join(parts)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return whole.encode(encoding, "replace").decode(encoding) if plain else whole


def summary(grade):
    """How many checks ran, and what came of them; never "all" of what did not run."""
    ran = [r for r in grade.results if r.status != results.NOT_RUN]
    if not ran:
        return f"No check ran, of {len(grade.results)}."
    idle = len(grade.results) - len(ran)
    holds = sum(r.status == results.HOLDS for r in ran)
    counts = [(sum(r.status == status for r in ran), ends) for status, ends in ENDS.items()]
    said = [f"{count} {ends[count > 1]}" for count, ends in counts if count]
    tasks = list(dict.fromkeys(r.task for r in ran))
    which = f"{len(ran)} checks" if len(ran) != 1 else "one check"
    if idle:
        of = f"task {tasks[0]}" if len(tasks) == 1 else f"the tasks {_listed(tasks)}"
        which = f"the {which} of {of} that ran"
    if holds == len(ran):
        line = f"{'All of ' if len(ran) > 1 else ''}{which} hold{'s' * (len(ran) == 1)}"
        line = line[0].upper() + line[1:]
    else:
        line = ", ".join([f"{holds} of {which} hold{'s' * (holds == 1)}", *said])
    earned = f"{number(sum(r.earned for r in ran))} of {number(sum(r.points for r in ran))} points"
    rest = f"; {idle} other{'s' * (idle > 1)} did not run" if idle else ""
    return f"{line}{rest}. That is {earned}."


def next_hints(folder, grade, assignment):
    """{task: hints} of the first task with something that fails: one hint more than last time.

    How many there were is kept in the folder, under HINTS.

    Raises
    ------
    UserError
        where that cannot be written.
    """
    failing = [r.task for r in grade.results if r.status not in SAYS_IT_ALL]
    tasks = [task for task in assignment.tasks if task.name in failing and task.hints]
    if not tasks:
        return {}
    path = Path(folder) / HINTS
    given = _given(path)
    task = tasks[0]
    given[task.name] = min(given.get(task.name, 0) + 1, len(task.hints))
    try:
        write_text(path, json.dumps(given) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    return {task.name: task.hints[: given[task.name]]}


def _given(path):
    """How many hints of each task were given before; a file that is none counts for nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): v for k, v in found.items() if type(v) is int and v >= 0}
    except (OSError, ValueError, AttributeError):
        return {}


def _task(task, ran, hints, colour, plain):
    """A task's heading, a line a check, what is known of the first that fails, and hints."""
    earned = number(sum(r.earned for r in ran))
    of = f"{earned} of {number(sum(r.points for r in ran))} points"
    heading = f"{task.name}: {task.title}"
    lines = [f"{heading}{of:>{max(WIDTH - len(heading), len(of) + 2)}}"]
    waiting = all(r.status == results.STUB for r in ran)
    for r in ran:
        lines += _check(r, colour, plain, brief=waiting and r is not ran[0])
    wrong = [r for r in ran if r.status not in SAYS_IT_ALL and r.detail.strip()]
    if wrong:
        first = wrong[0]
        detail = bounded(clean(first.detail), lines=80, width=120).strip("\n").split("\n")
        lines += ["", f"    first: {one_line(first.title, WIDTH)}"]
        lines += [f"    {line}".rstrip() for line in detail]
    for i, hint in enumerate(hints, 1):
        lines += ["", f"    hint {i} of {len(task.hints)}", *_folded(hint.strip(), "    ")]
    if hints and len(hints) == len(task.hints):
        lines.append("    That was the last hint.")
    return "\n".join(lines)


def _check(result, colour, plain, brief):
    """A check's line, and below it the reason where it does not hold."""
    mark = MARKS.get(result.status, FAILED)
    shown = f"{PLAIN[mark]:<2}" if plain else mark
    if colour and mark in COLOURS:
        import click

        shown = click.style(shown, fg=COLOURS[mark])
    of = f"{number(result.earned)}/{number(result.points)}"
    title = one_line(result.title, WIDTH - 16)
    lines = [f"  {shown} {title:<{WIDTH - 14 - plain}} {of:>9}"]
    if result.status in SAYS_IT_ALL or brief:
        return lines
    return lines + _folded(one_line(_reason(result), 400), "      ")


def _reason(result):
    if result.status == results.INCONCLUSIVE:
        return f"ours to fix, not yours: {result.reason}"
    if result.status == results.STUB:
        return "not implemented yet"
    return result.reason or result.status


def _end(grade, assignment, hints):
    """What this check is, and what it is not."""
    lines = []
    if assignment.written:
        points = number(sum(question.points for question in assignment.written))
        lines += _folded(f"The written part, {points} points more, is read by a person.", "")
    if grade.seed == 0:
        drawn = "These are the public cases (seed 0)."
    else:
        drawn = f"These cases were drawn from seed {grade.seed}."
    lines += _folded(
        f"{drawn} Grading draws others: what fits only these fails there. Your code "
        "ran apart from this program to protect your computer; marks come from `minillm course "
        "grade`.",
        "",
    )
    left = [
        task
        for task in assignment.tasks
        if task.hints
        and len(hints.get(task.name, ())) < len(task.hints)
        and any(r.task == task.name and r.status not in SAYS_IT_ALL for r in grade.results)
    ]
    if left:
        more = "next hint" if left[0].name in hints else "hint"
        lines += _folded(f"Stuck? Add {left[0].name} --hint for a {more}.", "")
    return lines


def _folded(words, indent):
    found = []
    for paragraph in clean(words).split("\n"):
        found += textwrap.wrap(
            paragraph, WIDTH, initial_indent=indent, subsequent_indent=indent,
            break_on_hyphens=False,
        ) or [""]  # fmt: skip
    return found


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _writes(stream, characters):
    """Whether a stream's encoding has these characters."""
    try:
        characters.encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True

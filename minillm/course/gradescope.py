"""results.json as Gradescope's autograder specification has it.

https://gradescope-autograders.readthedocs.io/en/latest/specs/, "Output format". What a student
sees of it: `output`, and of the tests those whose visibility allows it. `extra_data` is stored and
not shown; the seed lies there, so that nobody can write down the answers to its cases.
"""

import json
import math

from minillm.course import results
from minillm.course.feedback import headline, number, reason, sections, words
from minillm.course.plain import bounded, clean, one_line

__all__ = ["results_json", "results_table"]

SECTION_LENGTH = 3000


def results_json(assignment, grade, notes=(), failed=""):
    """The text of results.json; parameters as for results_table."""
    table = results_table(assignment, grade, notes, failed)
    return json.dumps(table, indent=1, allow_nan=False, ensure_ascii=True) + "\n"


def results_table(assignment, grade, notes=(), failed=""):
    """The table that results.json holds.

    Parameters
    ----------
    assignment : Assignment
    grade : Grade; checks that are not run yet score zero, as all that do not hold
    notes : lines on the files that were handed in
    failed : str, why grading as a whole did not end; shown to the student
    """
    visible = {
        (task.name, check.name): check.visibility
        for task in assignment.tasks
        for check in task.checks
    }
    numbers = {task.name: i for i, task in enumerate(assignment.tasks, 1)}
    titles = {task.name: task.title for task in assignment.tasks}
    tests, counts = [], dict.fromkeys(numbers, 0)
    for result in grade.results:
        counts[result.task] += 1
        tests.append(
            {
                "score": _points(result.earned),
                "max_score": _points(result.points),
                "status": "passed" if result.status == results.HOLDS else "failed",
                "name": one_line(f"{titles[result.task]}: {result.title}"),
                "name_format": "text",
                "number": f"{numbers[result.task]}.{counts[result.task]}",
                "output": _output(result),
                "output_format": "text",
                "tags": [result.task],
                "visibility": visible.get((result.task, result.name), "visible"),
                "extra_data": {"check": result.name, "status": result.status},
            }
        )
    return {
        "score": _points(grade.earned),
        "execution_time": round(grade.seconds, 3) if math.isfinite(grade.seconds) else 0,
        "output": _top(assignment, grade, notes, failed),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {
            "assignment": grade.assignment,
            "version": grade.version,
            "seed": grade.seed,
            "variant": grade.variant,
            "isolation": grade.isolation,
        },
        "tests": tests,
    }


def _points(value):
    return round(float(value), 4)


def _output(result):
    text = words(result).capitalize() + "."
    if result.reason or result.status == results.INCONCLUSIVE:
        text += f" {reason(result)}"
    if result.detail.strip():
        text += "\n\n" + bounded(clean(result.detail), SECTION_LENGTH).strip("\n")
    return text


def _top(assignment, grade, notes, failed):
    """What stands above the tests; no total where a hidden check would show through it."""
    lines = [failed] if failed else []
    private = {
        (t.name, c.name) for t in assignment.tasks for c in t.checks if c.visibility != "visible"
    }
    if all((result.task, result.name) not in private for result in grade.results):
        lines.append(f"{headline(grade)}.")
    lines += [f"- {one_line(note, 400)}" for note in notes]
    for section in sections(assignment, grade):
        if section.hints:
            lines.append(f"\nHint for {one_line(section.task.title)}: {section.hints[0].strip()}")
    if assignment.written:
        points = number(sum(question.points for question in assignment.written))
        lines.append(f"\nThe written part ({points} points) is read by a person.")
    return clean("\n".join(lines))

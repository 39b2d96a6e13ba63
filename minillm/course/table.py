"""The class as one CSV, and a summary for the instructor.

A cell that a spreadsheet would run as a formula (a student's folder can be called =HYPERLINK(...))
gets an apostrophe in front: OWASP, "CSV Injection".
"""

import csv
import io
import statistics

from minillm.course import results
from minillm.course.feedback import number
from minillm.course.plain import inline, one_line

__all__ = ["grades_csv", "neutral", "summary"]


def grades_csv(grades, notes):
    """The text of grades.csv: one row a student.

    Parameters
    ----------
    grades : list of Grade
    notes : {student: list of str}
    """
    columns = _checks(grades)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # RFC 4180, section 2
    names = [neutral(f"{task}/{name}") for task, name in columns]
    writer.writerow(
        ["student", "score", "max", "percent", *names, "inconclusive", "seed", "variant",
         "isolation", "note"]
    )  # fmt: skip
    for grade in grades:
        by_check = {(result.task, result.name): result for result in grade.results}
        earned = [number(by_check[c].earned) if c in by_check else "" for c in columns]
        texts = [repr(grade.variant) if grade.variant else "", grade.isolation]
        texts.append("; ".join([*_not_run(grade), *notes.get(grade.student, ())]))
        writer.writerow(
            [
                neutral(one_line(grade.student)),
                number(grade.earned),
                number(grade.points),
                f"{100 * grade.share:.1f}",
                *earned,
                _count(grade.results, results.INCONCLUSIVE),
                grade.seed,
                *(neutral(one_line(text, 600)) for text in texts),
            ]
        )
    return buffer.getvalue()


def neutral(text):
    """A cell that no spreadsheet takes for a formula."""
    return "'" + text if text.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")) else text


def summary(assignment, grades, notes):
    """The text of summary.md: the instructor's page."""
    parts = [f"# {inline(assignment.title)} ({assignment.name}): summary"]
    parts.append(_statistics(grades))
    parts += _ours(grades)
    titles = {task.name: task.title for task in assignment.tasks}
    rows = []
    for task, name in _checks(grades):
        same = [r for g in grades for r in g.results if (r.task, r.name) == (task, name)]
        others = {status: _count(same, status) for status in results.STATUSES[1:]}
        why = ", ".join(f"{count} {status}" for status, count in others.items() if count)
        holds = _count(same, results.HOLDS)
        rows.append(
            f"| {inline(titles.get(task, task))} | {inline(same[0].title)} "
            f"| {holds} of {len(same)} | {100 * holds / len(same):.0f}% | {why} |"
        )
    parts.append("## Checks: how many students hold each")
    parts.append("\n".join(["| Task | Check | Holds | | Else |", "|---|---|-:|-:|---|", *rows]))
    noted = [(grade.student, notes.get(grade.student)) for grade in grades]
    if any(lines for _, lines in noted):
        parts.append("## Notes on what was handed in")
        parts.append(
            "\n".join(f"- {inline(who)}: {inline(text)}" for who, ls in noted for text in ls or ())
        )
    parts.append("## How this was run")
    kinds = sorted({grade.isolation for grade in grades if grade.isolation})
    lines = [f"- {inline(kind, 600)}" for kind in kinds]
    seeds = sorted({grade.seed for grade in grades})
    lines.append(
        "- Seed: " + ", ".join(map(str, seeds[:5])) + ". With the same seed and version the "
        "same cases are drawn again. Whoever has it can write down the answers: keep it until "
        "the assignment is closed."
    )
    parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _statistics(grades):
    percents = [100 * grade.share for grade in grades]
    if not percents:
        return "No submissions."
    text = f"{len(grades)} submission{'s' * (len(grades) > 1)}. "
    text += f"Points from the checks, in percent: mean {statistics.fmean(percents):.1f}, "
    text += f"median {statistics.median(percents):.1f}, lowest {min(percents):.1f}, "
    text += f"highest {max(percents):.1f}."
    idle = sum(bool(_not_run(grade)) for grade in grades)
    return text + (f" Not run, or not to the end: {idle}." if idle else "")


def _ours(grades):
    """What came out inconclusive, check by check, and what to do about it."""
    found: dict[tuple[str, str], list] = {}
    for grade in grades:
        for result in grade.results:
            if result.status == results.INCONCLUSIVE:
                found.setdefault((result.task, result.name), []).append((grade.student, result))
    if not found:
        return []
    lines = []
    for (task, name), hits in found.items():
        who = ", ".join(student for student, _ in hits[:10]) + (", ..." if len(hits) > 10 else "")
        lines.append(
            f"- {inline(f'{task}/{name}')}: {len(hits)} of {len(grades)} students ({inline(who)}). "
            f"{inline(hits[0][1].reason)}"
        )
    return [
        "## Ours to fix, before marks go out",
        "These checks could not decide and earned nothing. Grade again with the same seed on a "
        "machine with less to do; a check that fails for every student has a mistake of its own: "
        "run `minillm course grade` on the reference, and report it.",
        "\n".join(lines),
    ]


def _checks(grades):
    """All (task, check), in the order of the first grade that has them."""
    return list(dict.fromkeys((r.task, r.name) for grade in grades for r in grade.results))


def _count(found, status):
    return sum(result.status == status for result in found)


def _not_run(grade):
    count = _count(grade.results, results.NOT_RUN)
    return [f"{count} of {len(grade.results)} checks not run"] if count else []

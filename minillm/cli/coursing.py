"""What `minillm course` does: calls of minillm.course, and what a person reads of them."""

import sys
from pathlib import Path

import click

from minillm.cli.options import check_out
from minillm.cli.progress import showing
from minillm.errors import UserError
from minillm.lines import aligned

__all__ = ["listed", "run_bundle", "run_check", "run_grade", "run_release"]

FAILED, INCONCLUSIVE = 1, 3


def listed():
    """The assignments as a table."""
    from minillm.course import manifest

    rows = [("assignment", "hours", "tasks", "title")]
    for name in manifest.names():
        assignment = manifest.load(name)
        rows.append((name, f"{assignment.hours:g}", str(len(assignment.tasks)), assignment.title))
    table = aligned([row[:3] for row in rows]).split("\n")
    return "\n".join(f"{line}  {row[3]}" for line, row in zip(table, rows, strict=True))


def run_release(name, to, student, students):
    from minillm.course.manifest import load
    from minillm.course.release import release
    from minillm.course.variants import variant_of

    if not to:
        raise UserError("--to must name a folder, got an empty text")
    if student and students:
        raise UserError("--student and --students are two ways to say it; give one")
    assignment = load(name)
    whom = _students(students) if students else [student]
    for one in whom:
        folder = Path(to) / one if students else Path(to)
        variant = variant_of(assignment, one) if one else {}
        files = release(assignment, folder, variant=variant, student=one, progress=_tell)
        click.echo(f"{folder}: {', '.join(files)}")
    click.echo(f"next: minillm course check {whom and folder}")


def run_check(folder, tasks, seed, hint, tier):
    from minillm.course import report
    from minillm.course.checking import check_folder

    with showing("checking", "check") as bar:
        done = 0

        def progress(task, title):
            nonlocal done
            done += 1
            if bar:
                bar(done)

        grade, assignment = check_folder(
            folder, tasks=tasks, seed=seed, tier=tier, progress=progress
        )
    hints = report.next_hints(folder, grade, assignment) if hint else {}
    click.echo(report.text(grade, assignment, hints=hints))
    ran = [r for r in grade.results if r.status != "not run"]
    if any(r.status == "inconclusive" for r in ran):
        return INCONCLUSIVE
    return 0 if all(r.status == "holds" for r in ran) else FAILED


def run_grade(folder, out, name, fail_under, seed, variants, jobs, tier):
    from minillm.course.grading import detect, grade_folder, inconclusive

    check_out(out)
    assignment = detect(folder, name)
    with showing("grading", "submission", seconds=0) as progress:
        grades, isolation = grade_folder(
            assignment, folder, out, seed=seed, variants=variants, jobs=jobs, tier=tier,
            progress=progress,
        )  # fmt: skip
    rows = [("student", "points", "of")]
    rows += [(g.student, f"{g.earned:g}", f"{g.points:g}") for g in grades]
    click.echo(aligned(rows))
    click.echo(f"\n{assignment.name} {assignment.version}, seed {grades[0].seed}")
    click.echo(f"isolation: {isolation.sentence}")
    click.echo(f"feedback and tables: {out}")
    ours = inconclusive(grades)
    for (task, check), reason in ours.items():
        print(f"inconclusive, ours to fix: {task}: {check}: {reason}", file=sys.stderr)
    low = [g for g in grades if fail_under is not None and 100 * g.share < fail_under]
    if low:
        print(f"below {fail_under:g} %: {', '.join(g.student for g in low)}", file=sys.stderr)
    if ours:  # before the rest: who is low may be so through our fault
        return INCONCLUSIVE
    return FAILED if low else 0


def run_bundle(name, to):
    from minillm.course.bundle import bundle
    from minillm.course.manifest import load

    if not to:
        raise UserError("--to must name a file or a folder, got an empty text")
    click.echo(bundle(load(name), Path(to)))


def _tell(what):
    print(f"  proving: {what}", file=sys.stderr)


def _students(file):
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        if "/" in name or "\\" in name or name in (".", ".."):
            raise UserError(f"{file}: {name!r} cannot be a folder's name")
    if not names or len(set(names)) < len(names):
        raise UserError(f"{file} must hold one name a line, each once")
    return names

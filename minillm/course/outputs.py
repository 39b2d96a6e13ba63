"""The files that grading leaves behind, each written whole or not at all.

    OUT/grades.csv  junit.xml  summary.md             the class
    OUT/STUDENT/feedback.md  feedback.html            to give back
    OUT/STUDENT/results.json                          Gradescope's schema

`write_zero` comes first: whatever then happens to the grader, each student has a valid score of
zero, and never one of an earlier run.
"""

from pathlib import Path

from minillm.course.feedback import markdown
from minillm.course.feedback_page import page
from minillm.course.gradescope import results_json
from minillm.course.junit import junit_xml
from minillm.course.table import grades_csv, summary
from minillm.errors import UserError
from minillm.files import write_bytes, write_text

__all__ = ["write_class", "write_student", "write_zero"]


def write_zero(out, assignment, zeros, submissions):
    """Before anything runs: results.json with no points for each student, and the table.

    Parameters
    ----------
    out : path, made where it is missing
    assignment : Assignment
    zeros : list of Grade, whose checks are all "not run"
    submissions : list of Submission, in the same order

    Raises
    ------
    UserError
        where something cannot be written.
    """
    out = Path(out)
    for zero, submission in zip(zeros, submissions, strict=True):
        folder = _made(out / submission.folder)
        for name in ("feedback.md", "feedback.html"):  # of an earlier run
            (folder / name).unlink(missing_ok=True)
        write_text(folder / "results.json", results_json(assignment, zero, submission.remarks))
    write_class(out, assignment, zeros, submissions)


def write_student(out, assignment, grade, submission):
    """One student's feedback and results.json."""
    folder = _made(Path(out) / submission.folder)
    notes = submission.remarks
    write_text(folder / "feedback.md", markdown(assignment, grade, notes))
    write_text(folder / "feedback.html", page(assignment, grade, notes))
    write_text(folder / "results.json", results_json(assignment, grade, notes))


def write_class(out, assignment, grades, submissions):
    """The files about all students; may be written again as more is known."""
    out = _made(Path(out))
    notes = {submission.student: submission.remarks for submission in submissions}
    write_text(out / "grades.csv", grades_csv(grades, notes))
    write_bytes(out / "junit.xml", junit_xml(assignment, grades))
    write_text(out / "summary.md", summary(assignment, grades, notes))


def _made(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}") from None
    return folder

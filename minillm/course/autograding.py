"""The grader inside a bundle (bundle.py): one submission for Gradescope, or a folder of them."""

import json
import os
import runpy
import secrets
import sys
import traceback
from pathlib import Path

from minillm.course.gradescope import results_json
from minillm.course.handout import handed_out
from minillm.course.manifest import load
from minillm.course.results import INCONCLUSIVE, NOT_RUN, CheckResult, Grade
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.course.submissions import read_submission
from minillm.errors import UserError
from minillm.files import write_text

__all__ = ["grade_one", "main", "zero_grade"]

NOT_STARTED = (
    "The grader did not start, so nothing was checked. This is ours to fix, not yours: please tell "
    "your instructor."
)
NOT_ENDED = (
    "Grading did not come to its end, so there are no points yet. This is ours to fix, not yours: "
    "please tell your instructor, who sees the reason in the autograder's output."
)
FAILED, DONE = 4, 0


def zero_grade(assignment, student="submission", seed=0):
    """A Grade of an assignment of which nothing has been run."""
    checks = Grader(assignment, None, seed=seed).plan().checks
    found = [
        CheckResult(run.task, run.name, run.title, run.points, NOT_RUN)
        for runs in checks.values()
        for run in runs
    ]
    return Grade(student, assignment.name, assignment.version, seed, results=found)


def zero_json(assignment):
    """The results.json of a grader that has not started."""
    return results_json(assignment, zero_grade(assignment), failed=NOT_STARTED)


def grade_one(assignment, root, tier="uid"):
    """Grade root/submission into root/results/results.json; zero stands there until the end.

    Parameters
    ----------
    assignment : Assignment
    root : path, Gradescope's /autograder
    tier : as for Sandbox; for marks "uid", so that nothing is graded where it does not hold

    Returns
    -------
    code : 0, or 4 where our side failed
    """
    root, seed = Path(root), secrets.randbits(48)
    path, zero = root / "results" / "results.json", zero_grade(assignment, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, results_json(assignment, zero, failed=NOT_ENDED))
    try:
        with Sandbox(assignment.packages, tier=tier) as sandbox:
            grader = Grader(assignment, sandbox, seed=seed)
            modules = grader.plan().modules
            submission = read_submission(
                root / "submission",
                modules.handed_in,
                student="submission",
                quiet=handed_out(assignment, modules),
            )
            notes = submission.remarks
            write_text(path, results_json(assignment, zero, notes, NOT_ENDED))
            grade = grader.grade(submission.student, submission.files)
        write_text(path, results_json(assignment, grade, notes))
    except Exception:  # the student has the zero that stands there, the instructor the reason
        traceback.print_exc()
        return FAILED
    for result in grade.results:
        if result.status == INCONCLUSIVE:
            print(f"ours to fix: {result.task}/{result.name}: {result.reason}")
    print(f"{grade.earned:g} of {grade.points:g} points; seed {seed}; {grade.isolation}")
    return DONE


def main(arguments, here):
    """The commands of autograder/grade.py.

    Parameters
    ----------
    arguments : list of str
    here : path of the bundle
    """
    table = json.loads((Path(here) / "bundle.json").read_text(encoding="utf-8"))
    name = table["assignment"]
    if table["own"]:
        name = str(Path(here) / "assignment" / name)
    tier = os.environ.get("AUTOGRADER_TIER", "uid")
    command, *rest = arguments or [""]
    try:
        if command == "--one" and len(rest) == 1:
            return grade_one(load(name), rest[0], tier)
        if command == "--folder":
            options = ["--assignment", name, "--tier", tier]
            sys.argv = ["minillm", "course", "grade", *rest, *options]
            runpy.run_module("minillm", run_name="__main__")  # as the shell would; it exits
        if command == "--warm":
            zero_grade(load(name))
            with Sandbox(load(name).packages, tier="same") as sandbox:
                print(sandbox.isolation.sentence)
            return DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("grade.py --one ROOT, --folder FOLDER --out DIR, or --warm", file=sys.stderr)
    return 2

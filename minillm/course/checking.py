"""`minillm course check`: a student's folder, on public cases, with the same checks as grading."""

from pathlib import Path

from minillm.course.release import assignment_of, read_release
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.errors import UserError

__all__ = ["PUBLIC_SEED", "check_folder", "read_files"]

PUBLIC_SEED = 0
LARGEST = 256 * 1024  # bytes of a file that a person wrote


def check_folder(folder, *, tasks=(), seed=PUBLIC_SEED, tier=None, progress=None):
    """Check what a student has written so far.

    Parameters
    ----------
    folder : path of a release
    tasks : names of tasks, () for all
    seed : int, of the cases
    tier, progress : as for Sandbox and Grader.grade

    Returns
    -------
    grade : Grade
    assignment : Assignment

    Raises
    ------
    UserError
        for a folder that is no release, an unknown task, or a file that cannot be read.
    """
    table = read_release(folder)
    assignment = assignment_of(folder)
    for name in tasks:
        assignment.task(name)
    variant, student = table["variant"], table.get("student") or "you"
    with Sandbox(assignment.packages, tier=tier) as sandbox:
        grader = Grader(assignment, sandbox, seed=seed)
        files = read_files(folder, grader.plan(variant).modules.handed_in)
        chosen = list(tasks) or None
        grade = grader.grade(student, files, variant=variant, tasks=chosen, progress=progress)
    return grade, assignment


def read_files(folder, names):
    """{name: bytes} of those of some files that are there.

    Raises
    ------
    UserError
        for one that is too large to have been written by a person, or cannot be read.
    """
    found = {}
    for name in names:
        path = Path(folder) / name
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > LARGEST:
                raise UserError(f"{path} is larger than {LARGEST // 1024} KB")
            found[name] = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return found

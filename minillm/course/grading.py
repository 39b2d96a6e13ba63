"""`minillm course grade`: a folder of submissions, on all cores; no result is half written."""

import contextlib
import secrets
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from minillm.cores import available_cores
from minillm.course import results
from minillm.course.handout import handed_out
from minillm.course.manifest import load, names
from minillm.course.modules import Modules
from minillm.course.outputs import write_class, write_student, write_zero
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.course.similarity import compare_class
from minillm.course.similarity_page import write_similarity
from minillm.course.submissions import find_submissions
from minillm.course.variants import variant_of
from minillm.errors import UserError

__all__ = ["detect", "grade_folder", "inconclusive"]


def grade_folder(
    assignment, folder, out, *, seed=None, variants=False, jobs=None, tier=None, progress=None
):
    """Grade every submission in a folder.

    Parameters
    ----------
    assignment : Assignment
    folder, out : paths; out gets a folder a student, and the tables of the class
    seed : int or None; None draws one, which is recorded, so that a grade can be made again
    variants : bool, whether each student has a variant of their own
    jobs : int or None, how many submissions at a time; None: one a core
    tier : as for Sandbox
    progress : function progress(done, total)

    Returns
    -------
    grades : list of Grade, in the order of the submissions
    isolation : Isolation, what the grades rest on
    """
    out = Path(out)
    seed = secrets.randbits(48) if seed is None else seed
    with Sandbox(assignment.packages, tier=tier) as sandbox:
        grader = Grader(assignment, sandbox, seed=seed)
        modules = grader.plan().modules
        quiet = handed_out(assignment, modules)
        submissions = find_submissions(folder, modules.handed_in, leave_out=[out], quiet=quiet)
        zeros = []
        for one in submissions:
            variant = variant_of(assignment, one.student) if variants else {}
            zeros.append(grader.grade(one.student, one.files, variant=variant, tasks=()))
        write_zero(out, assignment, zeros, submissions)
        workers = max(1, min(jobs or available_cores(), len(submissions)))
        grades = list(zeros)

        def work(index):
            one = submissions[index]
            grade = grader.grade(one.student, one.files, variant=zeros[index].variant)
            write_student(out, assignment, grade, one)
            grades[index] = grade

        try:
            with contextlib.closing(_on_all_cores(work, len(submissions), workers)) as ready:
                for done, _ in enumerate(ready, 1):
                    if progress:
                        progress(done, len(submissions))
        finally:  # interrupted or not, the tables say what the students' own files say
            write_class(out, assignment, grades, submissions)
        write_similarity(out, compare_class(submissions, modules))
        return grades, sandbox.isolation


def _on_all_cores(work, count, workers):
    """Call work(index) for each index; yields one after the other as they are done."""
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, index) for index in range(count)]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            for future in running:
                future.cancel()


def detect(folder, given=None):
    """The assignment that a folder of submissions is for: the one named, or told by the files.

    Raises
    ------
    UserError
        where the files' names do not settle it.
    """
    if given:
        return load(given)
    there = {path.name for path in Path(folder).rglob("*") if path.is_file()}
    found = {}
    for name in names():
        assignment = load(name)
        asked = set(Modules(assignment).handed_in)
        found[name] = len(asked & there) / len(asked)
    best = max(found.values(), default=0)
    candidates = [name for name, share in found.items() if share == best]
    if not best or len(candidates) > 1:
        raise UserError(f"which assignment is in {folder}? Name it: --assignment hw3")
    return load(candidates[0])


def inconclusive(grades):
    """The checks that came out inconclusive, each once."""
    found = {}
    for grade in grades:
        for result in grade.results:
            if result.status == results.INCONCLUSIVE:
                found[result.task, result.name] = result.reason
    return found

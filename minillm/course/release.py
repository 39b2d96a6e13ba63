"""Writing an assignment for students: proved first, and never over what a student has written."""

import json
from pathlib import Path

from minillm.course import manifest
from minillm.course.handout import texts
from minillm.course.proofs import prove
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.errors import UserError
from minillm.files import new_folder, write_text

__all__ = ["assignment_of", "read_release", "release"]

MANIFEST = ("assignment.toml", "cases.py", "drive.py")


def release(assignment, folder, *, variant=None, student=None, tier=None, progress=None):
    """Write an assignment into a folder, once all of proofs.py holds.

    Parameters
    ----------
    assignment : Assignment
    folder : path; new, or one that an equal release was written to
    variant : {task: {keyword: value}}, one student's
    student : str or None, whom the variant is for
    tier : as for Sandbox
    progress : function progress(what)

    Returns
    -------
    files : names of what was written, in order

    Raises
    ------
    UserError
        where a proof fails, or a file would be written over.
    """
    folder = Path(folder)
    with Sandbox(assignment.packages, tier=tier) as sandbox:

        def grader_of(seed):
            return Grader(assignment, sandbox, seed=seed, explained=False)

        plan = grader_of(0).plan(variant)
        files = texts(assignment, plan, student=student) | _own_manifest(assignment)
        _refuse_to_overwrite(folder, files)
        prove(assignment, grader_of, plan, files, progress=progress)
    if folder.exists():
        for name, text in files.items():
            if not (folder / name).exists():
                _write(folder / name, text)
    else:
        with new_folder(folder) as temporary:
            for name, text in files.items():
                _write(temporary / name, text)
    return list(files)


def _write(path, text):
    path.parent.mkdir(exist_ok=True)
    write_text(path, text)


def _own_manifest(assignment):
    """The manifest of an assignment that is not minillm's: a student's check needs it."""
    if assignment.folder.parent == Path(str(manifest.FOLDER)).resolve():
        return {}
    paths = [assignment.folder / name for name in MANIFEST]
    return {
        f"{assignment.name}/{path.name}": path.read_text(encoding="utf-8")
        for path in paths
        if path.is_file()
    }


def _refuse_to_overwrite(folder, files):
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; --to must name a folder")
    for name, text in files.items():
        path = folder / name
        if path.is_symlink() or (path.exists() and path.read_bytes() != text.encode()):
            raise UserError(
                f"{path} is there already and would be written over; choose another --to"
            )


def assignment_of(folder):
    """The Assignment of a student's folder: the one that came with it, or minillm's own.

    Raises
    ------
    UserError
        where the folder is no release, or its assignment is not there.
    """
    name = read_release(folder)["assignment"]
    own = Path(folder).resolve() / name
    return manifest.load(str(own) if (own / "assignment.toml").is_file() else name)


def read_release(folder):
    """The release.json of a student's folder, as a dict.

    Raises
    ------
    UserError
        where there is none, or it is damaged.
    """
    path = Path(folder) / "release.json"
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    if not path.is_file():
        raise UserError(f"{folder} holds no release.json; is it the folder of an assignment?")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        name, variant = table["assignment"], table["variant"]
        good = isinstance(name, str) and isinstance(variant, dict)
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise UserError(f"{path} is damaged; take it from the release again")
    return table

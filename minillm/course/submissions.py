"""What students handed in: a folder of folders and archives, read without trusting any of it.

A submission is one of these, side by side in one folder:

    alice/softmax.py            a folder, also with one folder in between: alice/hw3/softmax.py
    bob.zip, carol.tar.gz       an archive, also one that lies in a student's folder
    Dan Day_4711_assignsubmission_file_/softmax.py      Moodle, "download all submissions"
    Dan Day_4711_assignsubmission_file_softmax.py       Moodle, without folders
    eveeve_LATE_340934_208490284_softmax-1.py           Canvas, "download submissions"

Canvas writes -1, -2 ... before the ending when a student hands in a file of one name again.
Nothing is unpacked, no link is followed, and only the files that the assignment names are read: an
archive's members through archives.py. What is wrong with a submission becomes a note on it.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from minillm.course.archives import ARCHIVES, LARGEST_FILE, members, unread_kind
from minillm.course.plain import clean, one_line, safe_name
from minillm.errors import UserError

__all__ = ["Submission", "find_submissions", "natural", "read_submission"]

MOST_ENTRIES = 2000  # of a submission, looked at
DEEPEST = 3  # folders below a submission
MOST_NOTES = 12
MOODLE = re.compile(r"(?P<student>.+_\d+_assignsubmission_file)_(?P<name>.+)")
ONLINE_TEXT = "_assignsubmission_onlinetext"
CANVAS = re.compile(
    r"(?P<who>[^_]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<attachment>\d+)_(?P<name>.+)"
)
AGAIN = re.compile(r"-(\d{1,4})(?=\.\w+$)")
# of os.open: wait for no pipe, follow no link; a system without them has neither
FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
FLAGS |= getattr(os, "O_BINARY", 0)
OUTPUTS = ("grades.csv", "junit.xml", "summary.md", "similarity.md", "similarity.csv")


@dataclass
class Submission:
    """One student's files.

    Attributes
    ----------
    student : str, the folder's or the archive's name, different from all others
    folder : str, the same made fit for a folder's name, different from all others in any case
    files : {name: bytes}, of the files that the assignment names
    missing : list of str, the names that are not there
    notes : list of str, one line each: what was left out, and why
    """

    student: str
    folder: str
    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def remarks(self):
        """The notes, and before them what is missing: for the student and the instructor."""
        missing = [f"not handed in: {', '.join(self.missing)}"] if self.missing else []
        return missing + self.notes


def find_submissions(folder, names, leave_out=(), quiet=()):
    """All submissions in a folder, in natural order.

    Parameters
    ----------
    folder : path
    names : the files that the assignment asks for
    leave_out : paths in it that are no submission, such as the folder for the results
    quiet : names that are not asked for and no surprise: the rest of what was handed out

    Raises
    ------
    UserError
        when the folder is missing, is none, or holds no submission.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"there is no folder {folder}")
    if not folder.is_dir():
        unpack = " (unpack it first)" if folder.name.lower().endswith(ARCHIVES) else ""
        raise UserError(
            f"{folder} is a file; expected the folder that holds the submissions{unpack}"
        )
    skipped = {os.path.realpath(path) for path in leave_out}
    groups: dict[str, list[tuple[str, Path]]] = {}
    try:
        entries = sorted(os.listdir(folder), key=natural)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from None
    for entry in entries:
        path = folder / entry
        if not entry.startswith((".", "__MACOSX")) and os.path.realpath(path) not in skipped:
            student, name = _whose(entry, path)
            if student is not None:
                groups.setdefault(student, []).append((name, path))
    _drop_online_texts(groups)
    if not groups:
        direct = [entry for entry in entries if entry in names]
        hint = f"; {direct[0]} lies in it directly: is it one student's?" if direct else ""
        raise UserError(f"{folder} holds no submission: no folder and no archive{hint}")
    return _named(groups, tuple(names), frozenset(quiet))


def read_submission(path, names, student=None, quiet=()):
    """One submission: a folder or an archive."""
    path = Path(os.path.realpath(path))
    student = clean(path.name if student is None else student)
    submission = Submission(student, safe_name(student, OUTPUTS))
    return _fill(submission, [("", path)], tuple(names), frozenset(quiet))


def natural(name):
    """A key that sorts s2 before s10."""
    parts = re.split(r"([0-9]+)", str(name).casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], str(name)


def _whose(entry, path):
    """(the student's name, the name that the file was handed in under) of an entry, or None."""
    if path.is_dir() or path.is_symlink():
        return entry, ""
    for pattern in (MOODLE, CANVAS):
        match = pattern.fullmatch(entry)
        if match:
            found = match.groupdict()
            return found.get("student") or f"{found['who']}_{found['user']}", found["name"]
    lower = entry.lower()
    for ending in ARCHIVES:
        if lower.endswith(ending):
            return entry[: -len(ending)] or entry, entry
    return (entry, entry) if unread_kind(entry) or not path.is_file() else (None, entry)


def _drop_online_texts(groups):
    """Moodle's folder of typed text holds no files, where the student has a folder of files too."""
    for student in [s for s in groups if ONLINE_TEXT in s]:
        who = student.partition(ONLINE_TEXT)[0]
        if any(other != student and other.startswith(f"{who}_assign") for other in groups):
            del groups[student]


def _named(groups, names, quiet):
    """One Submission a group, under names that are all different."""
    submissions: list[Submission] = []
    for student, parts in groups.items():
        shown = clean(student).replace("\n", "\\n").replace("\t", "\\t")
        # a folder alice and an archive alice.zip are two submissions
        apart = [[part] for part in parts] if _clash(parts) else [parts]
        for sources in apart:
            name = shown
            if len(apart) > 1 and sources[0][1].is_file():
                name = clean(sources[0][1].name)
            same = sum(name == other.student for other in submissions)
            name = f"{name} ({same + 1})" if same else name
            taken = [*OUTPUTS, *(other.folder for other in submissions)]
            submission = Submission(name, safe_name(name, taken))
            if len(apart) > 1 or same:
                submission.notes.append("another submission has the same name")
            submissions.append(_fill(submission, sources, names, quiet))
    return sorted(submissions, key=lambda submission: natural(submission.student))


def _clash(parts):
    """Whether these are several submissions: all but loose files, which belong together."""
    return len(parts) > 1 and any(
        path.is_dir() or not (MOODLE.fullmatch(path.name) or CANVAS.fullmatch(path.name))
        for _, path in parts
    )


def _fill(submission, sources, names, quiet=frozenset()):
    """Read a submission's files from a folder, an archive, or several loose files."""
    found: list[tuple[str, str, object]] = []  # (folder, name, what reads it)
    notes = submission.notes
    for name, path in sources:
        canvas = CANVAS.fullmatch(path.name) if name else None
        if canvas and canvas["late"]:
            notes.append("handed in late, says Canvas")
        found += _look(path, AGAIN.sub("", name), name, names, notes)
    files, others = _choose(found, names, notes)
    for name, readers in sorted(files.items()):
        data = {_tried(reader, name, notes) for reader in readers} - {None}
        if len(data) > 1:
            notes.append(f"{name} is there {len(data)} times, each time another: none is taken")
        elif data:
            submission.files[name] = data.pop()
    others = [name for name in others if name.rpartition("/")[2] not in quiet]
    if others:
        shown = ", ".join(sorted(others, key=natural)[:8]) + (", ..." if len(others) > 8 else "")
        notes.append(f"not asked for, not read: {one_line(shown, 300)}")
    submission.missing = [name for name in names if name not in submission.files]
    submission.notes = [one_line(note, 400) for note in dict.fromkeys(notes)][:MOST_NOTES]
    return submission


def _look(path, plain, name, names, notes):
    """What lies at a path: [(folder, name, reader)]."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        notes.append(f"cannot be read: {error.strerror or error}")
        return []
    if stat.S_ISLNK(mode):
        notes.append(f"{path.name} is a symbolic link, which is not followed")
        return []
    if stat.S_ISDIR(mode):
        found = list(_walk(path, notes))
        if not any(part in names for _, part, _ in found):
            inside = [p for p in _archives(path) if p.lower().endswith(ARCHIVES)]
            found += [m for p in inside for m in members(path / p, notes)]
        return found
    if not stat.S_ISREG(mode):
        notes.append(f"{path.name} is no file (a pipe or a device), and is not read")
        return []
    if name.lower().endswith(ARCHIVES):
        return list(members(path, notes))
    if unread_kind(name):
        notes.append(
            f"{path.name}: {unread_kind(name)} archives are not read; .zip and .tar.gz are"
        )
        return []
    return [("", plain, lambda: _read(path))]


def _archives(folder):
    try:
        return sorted((entry.name for entry in os.scandir(folder) if _is_plain(entry)), key=natural)
    except OSError:
        return []


def _is_plain(entry):
    return entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")


def _walk(folder, notes):
    """The files below a folder, no link followed, no more than so many."""
    left, seen = [("", folder, 0)], 0
    while left:
        inside, path, depth = left.pop(0)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: natural(entry.name))
        except OSError as error:
            notes.append(f"{inside or 'the folder'} cannot be read: {error.strerror or error}")
            continue
        for entry in entries:
            seen += 1
            if seen > MOST_ENTRIES:
                notes.append(f"more than {MOST_ENTRIES} files: the rest is not looked at")
                return
            if entry.name.startswith((".", "__MACOSX", "__pycache__")):
                continue
            if entry.is_symlink():
                notes.append(f"{inside}{entry.name} is a symbolic link, which is not followed")
            elif entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST:
                    left.append((f"{inside}{entry.name}/", Path(entry.path), depth + 1))
            elif entry.is_file(follow_symlinks=False):
                yield inside, entry.name, lambda path=entry.path: _read(path)
            else:
                notes.append(f"{inside}{entry.name} is no file (a pipe or a device): not read")


def _choose(found, names, notes):
    """The files of one folder of the submission, the one that holds most of the names."""
    by_folder: dict[str, set[str]] = {}
    for inside, name, _ in found:
        if name in names:
            by_folder.setdefault(inside, set()).add(name)
    ranked = sorted(by_folder, key=lambda i: (-len(by_folder[i]), i.count("/"), natural(i)))
    chosen = ranked[0] if ranked else None
    if len(ranked) > 1:
        where = [f"{inside or 'the top'}" for inside in ranked]
        notes.append(f"files lie in {len(ranked)} folders; taken is {where[0]}, not {where[1]}")
    files: dict[str, list] = {}
    others = set()
    for inside, name, reader in found:
        if inside == chosen and name in names:
            files.setdefault(name, []).append(reader)
        else:
            others.add(f"{inside}{name}")
    return files, others


def _tried(reader, name, notes):
    """The bytes that a reader gives, or None and a note."""
    try:
        data = reader()
    except (OSError, ValueError) as error:
        notes.append(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if len(data) > LARGEST_FILE:
        notes.append(f"{name} has more than {LARGEST_FILE // 1024} KB, and is not taken")
        return None
    return data


def _read(path):
    """The bytes of a file, at most one more than is allowed; waits for no pipe, follows no link."""
    handle = os.open(path, FLAGS)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is no file")
        return file.read(LARGEST_FILE + 1)

"""Files of CUDA C in an assignment: what is handed out, and what a student's process gets of them.

A student writes `03_shared_tile.cu`. In their process it is a Python module of that name, made here
by the grader, which holds the text to compile: the compiler and the kernel run there, but nothing
else of the file does.

Two kinds of task. Either the kernel's body is taken out; or, where the manifest's `omit` numbers
some, barriers are, and then only barriers may be put in.
"""

import importlib.util
import types
from pathlib import Path

from minillm.course.cuda_rules import refusal
from minillm.course.cuda_source import CudaSourceError, renamed, stub, tokens, untold
from minillm.errors import UserError

__all__ = ["as_module", "as_reference", "read", "starter"]

BARRIER = ("__syncthreads", "(", ")", ";")


def read(path):
    """The text of a .cu file, by its path from its package's folder: package/folder/file.cu."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    file = Path(folders[0], rest) if folders else Path(path)
    if not file.is_file():
        raise UserError(f"there is no file {path}")
    return file.read_text(encoding="utf-8")


def starter(text, task, omitted=()):
    """What a student gets: the kernel without its body, or without some of its barriers."""
    if not omitted:
        return stub(text, f"not implemented: {task}")
    found = tokens(text)
    places = _barriers(found)
    for number in sorted(omitted, reverse=True):
        if not 1 <= number <= len(places):
            raise UserError(f"omit: there is no barrier {number}; there are {len(places)}")
        first = found[places[number - 1]]
        start = text.rfind("\n", 0, first.start)
        end = text.find("\n", first.start)
        text = text[:start] + text[end:]
    return text


def as_module(file, data, reference, omitted=()):
    """A Python module whose TEXT is to be compiled, or whose REFUSED says why it is not.

    Parameters
    ----------
    file : str, the student's file's name
    data : bytes or str, the student's
    reference : str, the solution
    omitted : numbers of barriers, from 1
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    problem, undone = (_barriers_only if omitted else _body)(text, reference)
    if undone:
        above = text[: max(0, text.find("#error"))].count("\n")  # it is told by the line
        return "\n" * above + f"raise NotImplementedError({undone!r})\n"
    if problem:
        return f"TEXT, REFUSED = None, {f'{file}, {problem}'!r}\n"
    return f"TEXT, REFUSED = {text if omitted else renamed(text)!r}, None\n"


def as_reference(text):
    """The solution as the same kind of module, for the grader."""
    return types.SimpleNamespace(TEXT=text, REFUSED=None)


def _body(text, reference):
    """(what is refused, what is not done) of a file whose kernel was to be written."""
    undone = untold(text)
    return (None, undone) if undone else (refusal(text), None)


def _barriers_only(text, reference):
    """The same of a file in which only barriers were to be put."""
    try:
        found = tokens(text)
    except CudaSourceError as error:
        return str(error), None
    wanted = tokens(reference)
    mine, theirs = _without_barriers(wanted), _without_barriers(found)
    for a, b in zip(mine, theirs, strict=False):
        if a.text != b.text:
            return f"line {b.row}: only barriers may be put in, but {b.text} is new or moved", None
    if len(mine) != len(theirs) or _directives(text) != _directives(reference):
        return "only barriers may be put in, but something else is new, missing or moved", None
    if "\\" in text or "??" in text:
        return "no line may go on in the next one", None
    count, most = len(_barriers(found)), len(_barriers(wanted))
    if count > most:
        return f"there are {count} barriers; {most} are enough, and each one costs time", None
    return None, "no barrier was put in" if count < most else None


def _directives(text):
    """The lines that start with #, in which white space has a meaning."""
    return [line.strip() for line in text.split("\n") if line.lstrip().startswith("#")]


def _barriers(found):
    """Where the barriers begin, in a list of tokens."""
    texts = [t.text for t in found]
    return [i for i in range(len(texts)) if tuple(texts[i : i + len(BARRIER)]) == BARRIER]


def _without_barriers(found):
    inside = {k for i in _barriers(found) for k in range(i, i + len(BARRIER))}
    return [t for i, t in enumerate(found) if i not in inside]

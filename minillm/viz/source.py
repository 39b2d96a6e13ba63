"""The source of an op, a function, a class or a file, shown in a notebook as it stands."""

import inspect
import textwrap
from pathlib import Path

from minillm.errors import UserError

__all__ = ["Source", "show_source"]

LANGUAGES = {".py": "python", ".cu": "cpp", ".cuh": "cpp", ".toml": "toml", ".json": "json"}


class Source:
    """Pieces of source with the places they come from; in a notebook it shows itself.

    Parameters
    ----------
    pieces : list of (str, where it stands; str, its language; str, the lines)
    """

    def __init__(self, pieces):
        self.pieces = pieces

    def __repr__(self):
        return "\n\n".join(f"# {place}\n{text}" for place, _, text in self.pieces)

    def _repr_markdown_(self):
        blocks = []
        for place, language, text in self.pieces:
            fence = "```" if "```" not in text else "`````"
            blocks.append(f"*{place}*\n\n{fence}{language}\n{text}\n{fence}")
        return "\n\n".join(blocks)


def show_source(thing, *, only=None, lines=None):
    """The source of something, read from its file.

    Parameters
    ----------
    thing : an op (its forward and its backward), a function, a class, a module, or the Path of a
        file
    only : "forward" or "backward" of an op, or None for both
    lines : (first, last) of a file or module, counted from 1, or None for all of it

    Returns
    -------
    source : Source

    Raises
    ------
    UserError
        for what has no source, or for lines that the file does not have.
    """
    if only not in (None, "forward", "backward"):
        raise UserError(f'only must be "forward", "backward" or None, got {only!r}')
    if inspect.ismodule(thing):
        thing = Path(str(thing.__file__))
    if isinstance(thing, Path):
        return Source([_of_file(thing, lines)])
    if lines is not None:
        raise UserError(f"lines are those of a file or module, not of {thing!r}")
    if not hasattr(thing, "defbackward"):
        if only is not None:
            raise UserError(f"only an op has a {only}, {thing!r} is none")
        return Source([_of_object(thing)])
    parts = {"forward": thing, "backward": getattr(thing, "backward", None)}
    return Source([_of_object(part) for name, part in parts.items() if only in (None, name)])


def _of_object(thing):
    plain = inspect.unwrap(thing) if callable(thing) else thing
    try:
        found, first = inspect.getsourcelines(plain)
        file = inspect.getsourcefile(plain)
    except (OSError, TypeError):
        raise UserError(f"no source to show of {thing!r}") from None
    last = first + len(found) - 1
    return (
        f"{_short(file)}, lines {first} to {last}",
        "python",
        textwrap.dedent("".join(found)).rstrip(),
    )


def _of_file(path, lines):
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    place = _short(path)
    if lines is not None:
        every, (first, last) = text.splitlines(), lines
        if not 1 <= first <= last <= len(every):
            raise UserError(f"{place} has lines 1 to {len(every)}, got {first} to {last}")
        text = "\n".join(every[first - 1 : last])
        place += f", lines {first} to {last}"
    return place, LANGUAGES.get(path.suffix, ""), text.rstrip("\n")


def _short(file):
    """A file's path from the package on, which is the same on every machine."""
    parts = Path(file).parts
    for package in ("minillm", "minillm_kernels"):
        if package in parts[:-1]:
            return "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :])
    return parts[-1] if not parts[-1].isdigit() else "this notebook"

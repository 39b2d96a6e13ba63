"""Text files and folders that a person names, read as strict UTF-8.

A folder is read with everything below it, sorted by path, hidden files and folders left out: the
files whose names end in one of SUFFIXES. A file that is named itself may have any suffix. A file
reached twice is read once, so that no text can stand in two parts of a split.
"""

import os
from pathlib import Path

from minillm.errors import UserError

__all__ = ["SUFFIXES", "decode", "files_below", "read_paths", "read_text"]

SUFFIXES = (".txt", ".text", ".md", ".rst", ".py")


def read_paths(paths):
    """The (name, text) pairs of files and folders in the order given, and a description of them.

    Empty files inside a folder are passed over; a file that is named itself must not be empty.

    Raises
    ------
    UserError
        naming the path, and what is wrong with it.
    """
    if not paths or "" in paths:
        raise UserError("no file or folder was named")
    texts: list[tuple[str, str]] = []
    seen: set[str] = set()
    for path in map(Path, paths):
        inside = _is_folder(path)
        for file in files_below(path) if inside else [path]:
            if (real := os.path.realpath(file)) in seen:
                continue
            seen.add(real)
            text = read_text(file)
            if text:
                texts.append((file.as_posix(), text))
            elif not inside:
                raise UserError(f"{path}: the file is empty")
    if not texts:
        raise UserError(f"{', '.join(map(str, paths))}: every file is empty")
    return texts, "text from " + ", ".join(str(p) for p in paths)


def _is_folder(path):
    try:
        path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return path.is_dir()


def files_below(folder, suffixes=SUFFIXES, skip=lambda name: name.startswith(".")):
    """The files of a folder and the folders below it, sorted by their path's parts.

    Raises
    ------
    UserError
        if a folder cannot be read, or no file has one of the suffixes.
    """

    def unreadable(error):
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}")

    found = []
    for where, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not skip(name)]
        found += [Path(where, name) for name in names if name.endswith(suffixes) and not skip(name)]
    if not found:
        raise UserError(f"{folder}: no file in it ends in {', '.join(suffixes)}")
    return sorted(found, key=lambda file: file.parts)


def read_text(path):
    """The text of a file, its newlines as they are.

    Raises
    ------
    UserError
        if the file cannot be read, is binary, or is not UTF-8.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path}: not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return decode(data, path)


def decode(data, name):
    """UTF-8 bytes as text, without a byte order mark at their start.

    Raises
    ------
    UserError
        naming the byte offset at which the bytes stop being text in UTF-8.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(
            f"{name}: not UTF-8 at byte 0: it begins as UTF-16 does; "
            "convert it with: iconv -f UTF-16 -t UTF-8"
        )
    if (zero := data.find(b"\0")) >= 0:
        raise UserError(f"{name}: a binary file, not text: a zero byte at byte {zero}")
    try:
        return data.decode("utf-8").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: not UTF-8: byte {error.start} is 0x{data[error.start]:02x} ({error.reason})"
        ) from None

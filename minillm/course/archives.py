"""Archives that may be hostile: looked through member by member, never unpacked.

A member is read on its own, up to a limit that holds for what comes out and not for what the
archive says, so that a bomb costs no more than a file of the largest size.
"""

import gzip
import io
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib

__all__ = ["ARCHIVES", "LARGEST_FILE", "members", "unread_kind"]

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
UNREAD = re.compile(r".*\.(7z|rar|gz|bz2|tbz2?|xz|txz|zst)", re.IGNORECASE)
LARGEST_FILE = 256 * 1024
LARGEST_ARCHIVE = 16 << 20
LARGEST_STREAM = 64 << 20  # of a tar once decompressed: its members lie one behind another
MOST_MEMBERS = 2000
BROKEN = (
    OSError, ValueError, RuntimeError, EOFError, KeyError, IndexError, ArithmeticError,
    AssertionError, zipfile.BadZipFile, zlib.error, tarfile.TarError, MemoryError,
)  # fmt: skip


def unread_kind(name):
    """The ending of an archive of a kind that is not read here, or ""."""
    match = UNREAD.fullmatch(name)
    return f".{match[1]}" if match and not name.lower().endswith(ARCHIVES) else ""


def members(path, notes):
    """What an archive holds: [(folder, name, what reads it)].

    What is broken, too large, encrypted, a link, or lies outside by its name, becomes a note.
    """
    try:
        if path.stat().st_size > LARGEST_ARCHIVE:
            raise ValueError(f"has more than {LARGEST_ARCHIVE >> 20} MB")
        kind = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        return list(kind(path, notes))
    except BROKEN as error:
        notes.append(f"{path.name} cannot be read as an archive: {_said(error)}")
        return []


def _zip_members(path, notes):
    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            if number == MOST_MEMBERS:
                notes.append(f"more than {MOST_MEMBERS} members: the rest is not looked at")
                return
            place = None if info.is_dir() else _place(info.filename, notes)
            if place is None:
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                notes.append(f"{info.filename} is a symbolic link, which is not followed")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                notes.append(f"{info.filename} is compressed in a way that is not read here")
            else:
                yield (*place, lambda info=info: _read_member(path, info))


def _read_member(path, info):
    # the limit holds for each of zlib's steps, so that a bomb stops after the first few
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            return file.read(LARGEST_FILE + 1)
    except BROKEN as error:
        raise ValueError(_said(error)) from None


def _tar_members(path, notes):
    with open(path, "rb") as file:
        magic = file.read(2)
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file
        # as a stream: no seeking back, which a header with a negative size would ask for
        with tarfile.open(fileobj=_Capped(plain), mode="r|") as archive:  # type: ignore[call-overload]
            for number, member in enumerate(archive):
                if number == MOST_MEMBERS:
                    notes.append(f"more than {MOST_MEMBERS} members: the rest is not looked at")
                    return
                place = None if member.isdir() else _place(member.name, notes)
                if place is None:
                    continue
                if not member.isreg() or member.issparse():
                    notes.append(f"{member.name} is a link or no file, and is not read")
                    continue
                data = archive.extractfile(member).read(LARGEST_FILE + 1)
                yield (*place, lambda data=data: data)


class _Capped:
    """A file that ends with an error after so many bytes."""

    def __init__(self, file):
        self.file, self.left = file, LARGEST_STREAM

    def read(self, size=io.DEFAULT_BUFFER_SIZE):
        if self.left <= 0:
            raise ValueError(f"holds more than {LARGEST_STREAM >> 20} MB")
        data = self.file.read(min(size, self.left))
        self.left -= len(data)
        return data


def _place(name, notes):
    """(folder with a slash at its end, name) of a member, or None for what is not looked at."""
    name = name.replace("\\", "/")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        notes.append(f"{name}: a name that leads out of the archive, not read")
        return None
    parts = [part for part in parts if part not in ("", ".")]
    if not parts or any(p.startswith((".", "__MACOSX", "__pycache__")) for p in parts):
        return None
    return posixpath.join(*parts[:-1], "") if parts[1:] else "", parts[-1]


def _said(error):
    """What an exception says, in one line."""
    if isinstance(error, zipfile.BadZipFile | tarfile.ReadError | EOFError | zlib.error):
        return f"broken ({error})"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)

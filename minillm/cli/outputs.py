"""Whether an output can be written, asked before the work that it is to hold."""

import errno
import os
from pathlib import Path

from minillm.errors import UserError

__all__ = ["check_file", "check_folder", "check_png"]


def check_file(path):
    """Refuse a file that cannot be written; nothing is written to find out.

    Raises
    ------
    UserError
        naming the path and the reason: no folder, a folder itself, read-only.
    """
    if path is None:
        return
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise _refusal(path, errno.EISDIR)
    if real.exists() and not real.is_file():  # a device or a pipe
        return
    if not real.parent.exists():
        raise _refusal(path, errno.ENOENT)
    _check_parent(path, real.parent)


def check_folder(path):
    """Refuse a folder that cannot be made, or not be written to."""
    real = Path(os.path.realpath(path))
    while not real.exists():
        real = real.parent
    _check_parent(path, real)


def check_png(path):
    """Refuse a picture under another format's name, or one that cannot be written."""
    if path is not None and Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: --png writes PNG, whose name ends in .png")
    check_file(path)


def _check_parent(path, folder):
    if not folder.is_dir():
        raise _refusal(path, errno.ENOTDIR)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refusal(path, errno.EACCES)


def _refusal(path, number):
    return UserError(f"cannot write {path}: {os.strerror(number)}")

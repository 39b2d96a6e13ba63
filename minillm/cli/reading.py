"""Text that a command is to read: a file, or - for standard input."""

import sys
from pathlib import Path

from minillm.data.files import decode, read_text
from minillm.errors import UserError

__all__ = ["whole_text"]


def whole_text(name):
    """The text of a file, or of standard input where the name is -.

    Raises
    ------
    UserError
        if there is none, or it is no UTF-8.
    """
    if name == "-":
        return decode(sys.stdin.buffer.read(), "standard input")
    if not Path(name).exists():
        raise UserError(f"{name}: no such file")
    return read_text(name)

"""The error that is the user's to mend: its message is one line, printed without a traceback."""

import numbers

__all__ = ["UserError", "is_whole", "require", "whole"]


class UserError(ValueError):
    """Wrong input from a person: a file, a flag, a prompt. Says what came and what was expected."""


def require(name, value, holds, expected):
    """Raise a UserError by the setting's name unless it `holds`."""
    if not holds:
        raise UserError(f"{name} must be {expected}, got {value!r}")


def is_whole(value):
    """A whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def whole(name, value, least):
    """The value as an int, if it is a whole number of at least `least`; else a UserError."""
    require(name, value, is_whole(value) and value >= least, f"a whole number of at least {least}")
    return int(value)

"""What metrics refuse, in one line that names what came and what was expected."""

import sys

import numpy as np

from minillm.errors import UserError

__all__ = ["is_number", "is_whole", "listed", "named", "require", "whole"]


def is_number(value):
    """A number that float64 holds, infinity and NaN among them; True and False are none."""
    if is_whole(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, float | np.floating)


def is_whole(value):
    """A whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require(name, value, holds, expected):
    """Raise a UserError by the setting's name unless it `holds`."""
    if not holds:
        raise UserError(f"{name} must be {expected}, got {value!r}")


def whole(name, value, least):
    """The value as an int, if it is a whole number of at least `least`; else a UserError."""
    holds = is_whole(value) and value >= least
    require(name, value, holds, f"a whole number of at least {least}")
    return int(value)


def named(what, name, known):
    """The name, if it is one of those known; else a UserError that lists them."""
    if not isinstance(name, str) or name not in known:
        raise UserError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return name


def listed(name, values):
    """The values as a list; a ValueError for what has none, and for a str, which is one value."""
    try:
        found = None if isinstance(values, str | bytes) else iter(values)
    except TypeError:
        found = None
    if found is None:
        raise ValueError(f"{name} must be a list, got {type(values).__name__}")
    return list(found)

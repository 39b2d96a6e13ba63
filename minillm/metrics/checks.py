"""What metrics refuse, in one line that names what came and what was expected."""

import sys

import numpy as np

from minillm.errors import UserError, is_whole

__all__ = ["is_number", "listed", "named"]


def is_number(value):
    """A number that float64 holds, infinity and NaN among them; True and False are none."""
    if is_whole(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, float | np.floating)


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

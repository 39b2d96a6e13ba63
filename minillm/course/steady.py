"""Cases whose answer rounding cannot spoil: others are drawn anew.

A row of nearly equal numbers makes layer norm divide by next to nothing, and in a row of two
numbers its dx is a small difference of large terms. What a right solution then returns depends on
the order of its additions, and a check would be luck. So the reference answers each case in float32
too: how far off it is there, in roundings of float32, is about how far off it is elsewhere in that
precision's roundings. Where that is more than a small part of what the judge lets pass, the case is
left alone.
"""

import numpy as np

from minillm.course.judge import ROUNDINGS, SHARE
from minillm.tree import leaves, map_leaves

__all__ = ["steady"]

PART = 1 / 8  # of the roundings that the judge lets pass
TRIES = 50


def steady(draw, answer):
    """The first case that is steady, or the last of TRIES.

    Parameters
    ----------
    draw : function () -> case, with "args" and "dout"
    answer : function case -> tree, the reference's in the precision of the case
    """
    for _ in range(TRIES):
        case = draw()
        dtypes = [x.dtype.name for _, x in leaves(case["args"]) if _is_float(x)]
        if roundings(case, answer) <= PART * ROUNDINGS[dtypes[0] if dtypes else "float64"]:
            break
    return case


def roundings(case, answer):
    """How many roundings of its largest value an array of the answer is off in float32, at most."""
    single = _cast(case, np.float32)
    exact = [np.asarray(x) for _, x in leaves(answer(_cast(single, np.float64))) if _is_float(x)]
    rough = [np.asarray(x) for _, x in leaves(answer(single)) if _is_float(x)]
    largest = [_largest(x) for x in exact]
    floor = SHARE * max(largest, default=0.0)
    off = [
        _largest(a - b) / max(size, floor)
        for a, b, size in zip(exact, rough, largest, strict=True)
        if max(size, floor)
    ]
    return max(off, default=0.0) / float(np.finfo(np.float32).eps)


def _cast(case, dtype):
    def cast(x):
        return x.astype(dtype) if _is_float(x) else x

    return case | {name: map_leaves(cast, case[name]) for name in ("args", "dout")}


def _is_float(x):
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"


def _largest(x):
    return float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0))

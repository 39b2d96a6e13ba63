"""Whether an answer is the reference's: same structure, shapes and kinds, values up to rounding.

Tolerances come from precision. In float64 an answer may be off by 2^14 roundings of the largest
value of its array: 3.6e-12, ten times less than the best that a central difference can do, whose
error is about eps^(2/3) = 3.7e-11 (Nocedal & Wright 2006, section 8.1). In float32 by 2^9: 6e-5.
"""

import numpy as np

from minillm.tree import leaves

__all__ = ["closeness", "difference", "tolerance"]

ROUNDINGS = {"float64": 2**14, "float32": 2**9}
SHARE = 1e-2  # of the whole answer's largest value: the least that an array is measured by


def tolerance(dtype):
    """The largest difference, relative to an array's largest value, that rounding explains."""
    name = np.dtype(dtype).name
    return ROUNDINGS.get(name, 2**9) * float(np.finfo(name).eps)


def difference(expected, came, inputs=None, whole=None):
    """What is wrong with an answer, in one line, or None.

    Parameters
    ----------
    expected, came : trees
    inputs : {name: array}, to say so where an input came back as the answer
    whole : tree, of which `expected` is a part: what is small beside it is measured by it
    """
    structure = _structure("", expected, came)
    if structure:
        return structure
    answer = dict(_named(came))
    sizes = [_largest(x) for tree in (expected, whole) for _, x in _named(tree)]
    largest = max(sizes, default=0.0)
    for name, x in _named(expected):
        problem = _array(name or "the result", x, answer[name], SHARE * largest)
        if problem:
            for label, given in (inputs or {}).items():
                if isinstance(given, np.ndarray) and given.size > 1 and _same(given, answer[name]):
                    problem += f"; what came is {label}, unchanged"
                    break
            return problem
    return None


def closeness(expected, came):
    """The largest difference of two arrays of one shape; nan where there is no comparing."""
    expected, came = np.asarray(expected), np.asarray(came)
    if expected.shape != came.shape or expected.dtype.kind not in "fiub":
        return float("nan")
    with np.errstate(invalid="ignore"):
        off = np.abs(expected.astype(np.float64) - came.astype(np.float64))
    off = np.where((expected == came) | (np.isnan(expected) & np.isnan(came)), 0, off)
    return float(off.max()) if off.size else 0.0


def _named(tree):
    """(name, leaf) of a tree, in which also plain numbers and strings are leaves."""
    return list(leaves(tree))


def _structure(path, expected, came):
    """Where two trees part in structure, or None."""
    label = path.strip(".") or "the result"
    if isinstance(expected, dict):
        if not isinstance(came, dict):
            return f"{label} must be a dict, got {_kind(came)}"
        if expected.keys() != came.keys():
            wanted = ", ".join(sorted(map(str, expected)))
            got = ", ".join(sorted(map(str, came)))
            return f"{label} must hold {wanted:.200}; got {got:.200}"
        pairs = [(key, expected[key], came[key]) for key in expected]
    elif isinstance(expected, list | tuple):
        if not isinstance(came, list | tuple):
            return f"{label} must be a {type(expected).__name__}, got {_kind(came)}"
        if len(expected) != len(came):
            return f"{label} must have {len(expected)} entries, got {len(came)}"
        pairs = list(zip(range(len(expected)), expected, came, strict=True))
    elif expected is None or came is None:
        if expected is not came:
            return f"{label} must be {_kind(expected)}, got {_kind(came)}"
        return None
    elif isinstance(came, dict | list | tuple):
        return f"{label} must be {_kind(expected)}, got {_kind(came)}"
    else:
        return None
    for key, mine, theirs in pairs:
        problem = _structure(f"{path}{key}.", mine, theirs)
        if problem:
            return problem
    return None


def _array(name, expected, came, floor):
    if not isinstance(expected, np.ndarray | float | int) or isinstance(expected, bool):
        same = type(expected) is type(came) and expected == came
        return None if same else f"{name} must be {_short(expected)}, got {_short(came)}"
    if not isinstance(came, np.ndarray | float | int):
        return f"{name} must be {_kind(expected)}, got {_kind(came)}"
    bare = not isinstance(expected, np.ndarray)
    expected, came = np.asarray(expected), np.asarray(came)
    if came.shape != expected.shape:
        return f"{name} has shape {came.shape}, expected {expected.shape}"
    kinds = "iu" if expected.dtype.kind in "iu" else expected.dtype.kind
    if came.dtype.kind not in kinds and not bare:
        return f"{name} is {came.dtype}, expected {expected.dtype}"
    if expected.dtype.kind == "f" and came.dtype != expected.dtype and not bare:
        return f"{name} is {came.dtype}, expected {expected.dtype}"
    if expected.dtype.kind != "f":
        wrong = expected != came
    else:
        most = tolerance(expected.dtype) * max(_largest(expected), floor)
        with np.errstate(invalid="ignore"):
            near = np.abs(came - expected) <= most
        wrong = ~(near | (came == expected) | (np.isnan(came) & np.isnan(expected)))
    if not wrong.any():
        return None
    with np.errstate(invalid="ignore"):
        off = np.abs(came.astype(np.float64) - expected.astype(np.float64))
    off = np.where(wrong, np.where(np.isnan(off), np.inf, off), -1)
    at = np.unravel_index(int(off.argmax()), off.shape)
    place = f"[{', '.join(map(str, at))}]" if at else ""
    of = f" ({int(wrong.sum())} of {wrong.size} elements are wrong)" if wrong.size > 1 else ""
    return f"{name}{place} is {_pair(came[at], expected[at])}{of}"


def _pair(came, expected):
    """Two numbers with as many digits as it takes to tell them apart."""
    if expected.dtype.kind != "f" or came.dtype.kind == "b":
        return f"{came}, expected {expected}"
    came, expected = came + 0, expected + 0  # no "-0"
    for digits in (6, 9, 12, 17):
        texts = f"{came:.{digits}g}", f"{expected:.{digits}g}"
        if texts[0] != texts[1]:
            break
    near = digits > 6 and expected.dtype == np.float64
    return f"{texts[0]}, expected {texts[1]}" + (
        ", nearer than a slip but no rounding" if near else ""
    )


def _largest(x):
    if isinstance(x, bool) or not isinstance(x, np.ndarray | float):
        return 0.0
    x = np.asarray(x)
    if x.dtype.kind != "f" or not x.size:
        return 0.0
    return float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0))


def _same(a, b):
    b = np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)


def _kind(x):
    if isinstance(x, np.ndarray):
        return f"an array of shape {x.shape}"
    return "None" if x is None else f"a {type(x).__name__}"


def _short(x):
    text = repr(x)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Cases and answers as text: code to be pasted where it is short, else how it begins.

What is shown may come from a student's process: it is only ever printed, and never at length.
"""

import inspect
import textwrap

import numpy as np

from minillm.course.judge import difference
from minillm.tree import leaves

__all__ = ["answers", "call_of", "differing", "output_name", "plain", "short", "unwrapped", "value"]

MOST = 12  # elements of an array that is shown whole
WIDTH = 84  # characters of a line
LINES = 6  # of one value


def value(x, most=MOST):
    """An array as Python writes it, `[[0.3, 1.2]]`; a long one by its shape and first entries."""
    if not isinstance(x, np.ndarray | np.generic):
        return plain(x)
    x = np.asarray(x)
    if x.size > most:
        first = ", ".join(_number(v) for v in x.ravel()[:4])
        return f"{x.dtype} of shape {x.shape}, begins {first}, ..."
    if x.size == 0 and x.shape != (0,):
        return f"empty, of shape {x.shape}"
    return _nested(x)


def plain(x, most=300):
    """A tree of plain values on one line, cut off where it is long."""
    text = ""
    for piece in _pieces(x):
        text += piece
        if len(text) > most:
            return f"{text[:most]} ..."
    return text


def _pieces(x):
    """The text of a tree bit by bit, so that no more of a large one is made than is shown."""
    if isinstance(x, np.ndarray | np.generic):
        yield value(x)
    elif isinstance(x, dict):
        yield "{"
        for i, (key, child) in enumerate(x.items()):
            yield ", " if i else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(child)
        yield "}"
    elif isinstance(x, list | tuple):
        yield "[" if isinstance(x, list) else "("
        for i, child in enumerate(x):
            yield ", " if i else ""
            yield from _pieces(child)
        yield "]" if isinstance(x, list) else ",)" if len(x) == 1 else ")"
    else:
        yield _number(x) if isinstance(x, float) else repr(x)


def short(name, x, indent="    "):
    """`name = ...` for a tree, folded over a few lines."""
    text = f"{name} = {plain(x)}"
    lines = textwrap.wrap(text, WIDTH - len(indent), break_long_words=True) or [text]
    if len(lines) > LINES:
        lines = [*lines[:LINES], "..."]
    return [indent + ("    " if i else "") + line for i, line in enumerate(lines)]


def call_of(case, backward=None, *, only_forward=False, indent="    "):
    """Lines that make the case's arguments and call the function, to be pasted into Python.

    Parameters
    ----------
    case : dict with module, function, args, kwargs, and for an op names, gradients, dout
    backward : the reference's backward, for an op: its first parameter tells the output's name
    """
    function = case["function"]
    given = list(case.get("args", ()))
    names = case.get("names") or [f"a{i}" for i in range(len(given))]
    lines, passed = [f"from {case['module']} import {function}"], []
    while given and given[-1] is None:
        given.pop()
    for name, x in zip(names, given, strict=False):
        lines += _assignment(name, x) if x is not None else []
        passed.append("None" if x is None else name)
    for name, x in case.get("kwargs", {}).items():
        if isinstance(x, np.ndarray | dict | list):
            lines += _assignment(name, x)
            passed.append(f"{name}={name}")
        else:
            passed.append(f"{name}={plain(x)}")
    if backward is None:
        lines.append(f"{function}({', '.join(passed)})")
        return [indent + line for line in lines]
    upstream = next(iter(inspect.signature(backward).parameters))
    lines.append(f"{output_name(backward)}, cache = {function}({', '.join(passed)})")
    if only_forward:
        return [indent + line for line in lines]
    lines += _assignment(upstream, case["dout"])
    lines.append(f"{', '.join(case['gradients'])} = {function}.backward({upstream}, cache)")
    return [indent + line for line in lines]


def output_name(backward):
    """What an op's output is called, by its backward's first parameter: y for dy."""
    upstream = next(iter(inspect.signature(backward).parameters))
    return upstream[1:] if upstream.startswith("d") and len(upstream) > 1 else "out"


def unwrapped(tree):
    """What a driver put into {"out": ...}."""
    return tree["out"] if isinstance(tree, dict) and tree.keys() == {"out"} else tree


def differing(name, came, expected):
    """(name, came, expected) of the parts of an answer that differ, the first few."""
    mine, theirs = dict(leaves(expected, f"{name}.")), dict(leaves(came, f"{name}."))
    if len(mine) < 2 or mine.keys() != theirs.keys():
        return [(name, came, expected)]
    wrong = [k for k in mine if difference({"": mine[k]}, {"": theirs[k]}) is not None]
    return [(k, theirs[k], mine[k]) for k in wrong]


def answers(pairs, indent="    "):
    """Lines of what came and what was expected, of (name, came, expected)."""
    width = max((len(name) for name, _, _ in pairs), default=0)
    lines = []
    for name, came, expected in pairs:
        for word, x in (("came", came), ("expected", expected)):
            head = f"{indent}{name:<{width}} {word:<9}"
            lines.append(head + value(x))
            if isinstance(x, np.ndarray) and came is not x and np.shape(came) != x.shape:
                lines[-1] += f"   (shape {np.shape(came)} came, {x.shape} expected)"
    return lines


def _assignment(name, x):
    """`name = np.array(...)`; where it is too long, a comment says what it is."""
    if not isinstance(x, np.ndarray | np.generic):
        text = _code(x)
        return [f"{name} = {text}" if len(text) <= 300 else f"# {name} = {text[:300]} ..."]
    x = np.asarray(x)
    if x.size > MOST:
        return [f"# {name}: {value(x)}"]
    return [f"{name} = {_code(x)}"]


def _code(x):
    """A tree as Python code."""
    if isinstance(x, np.ndarray | np.generic):
        x = np.asarray(x)
        inside = f"np.array({_nested(x)}" if x.size else f"np.zeros({x.shape}"
        usual = x.dtype == np.float64 or (x.dtype in (np.int64, np.bool_) and x.size)
        return inside + (")" if usual else f", np.{x.dtype})")
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k!r}: {_code(v)}" for k, v in x.items()) + "}"
    if isinstance(x, list | tuple):
        inside = ", ".join(map(_code, x))
        return f"[{inside}]" if isinstance(x, list) else f"({inside},)"
    return plain(x)


def _nested(x):
    """A small array as nested lists."""
    if x.ndim == 0:
        return _number(x[()])
    return "[" + ", ".join(map(_nested, x)) + "]"


def _number(x):
    if isinstance(x, bool | np.bool_):
        return str(bool(x))
    if isinstance(x, int | np.integer):
        return str(int(x))
    if isinstance(x, complex | np.complexfloating):
        return f"{complex(x):.6g}"
    text = f"{float(x) + 0.0:.6g}"  # + 0.0: no minus before a zero
    return text if any(c in text for c in ".en") else f"{text}.0"

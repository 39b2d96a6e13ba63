"""Shapes read from a docstring: `x : (..., C)` becomes the argument x=2,3,5.

Equal letters get equal sizes and different letters different ones; "..." is (2, 3). What is known
already decides the letters first: with x of shape (4, 7), C is 7.

    x : (..., C)                     floats; also `x : array of shape (N, C)`
    ids : (B, T) integers in [0, V)  integers below the size of V
    mask : bool (T, T)               True or False
    params : {"w": (C, K), "b": (K,)}
"""

import inspect
import re
from dataclasses import dataclass

__all__ = ["documented", "sized"]

LINE = re.compile(r"\s*(?:[-*]\s*)?(?P<names>\w+(?:\s*,\s*\w+)*)\s*:\s*(?P<what>.+)")
DIMENSION = re.compile(r"(?P<factor>\d*)\s*(?P<letter>\.\.\.|[^\W\d]\w*)?")
DIMENSIONS = r"(?<!\w)\(([^()]*)\)"  # no call, such as sqrt(D)
ENTRY = re.compile(r"[\"'](\w+)[\"']\s*:\s*" + DIMENSIONS)
BELOW = re.compile(r"\s*integers? in \[0, (\w+)\)")
NO_FLOATS = re.compile(r"\bint|\bnone\b|\blabel|\bind(ex|ices)\b", re.IGNORECASE)
SIZES = (5, 4, 7, 6, 9, 8, 11, 10, 13, 12)
ELLIPSIS = (2, 3)


@dataclass(frozen=True)
class Dimension:
    """4K is Dimension(4, "K"), 3 is Dimension(3, None), "..." is Dimension(1, "...")."""

    factor: int
    letter: str | None


ANY = Dimension(1, "...")


@dataclass(frozen=True)
class Documented:
    """What a docstring says of one array: its kind, its dimensions, the letter it stays below."""

    kind: str
    dimensions: tuple[Dimension, ...]
    below: str | None = None


def documented(function):
    """{path: Documented} of the parameters whose shape a function's docstring gives."""
    found: dict[str, Documented] = {}
    known = inspect.signature(function).parameters
    for line in (inspect.getdoc(function) or "").splitlines():
        if re.match(r"\s*returns?\b", line, re.IGNORECASE):
            break
        match = LINE.fullmatch(line)
        if match is None:
            continue
        names = re.split(r"\s*,\s*", match["names"])
        for name in (n for n in names if n in known):
            for path, array in _arrays(name, match["what"]):
                found.setdefault(path, array)
    return found


def sized(arrays, shapes):
    """{path: the text of its --arg} for documented arrays; shapes holds those known already."""
    sizes: dict[str, tuple[int, ...]] = {}
    for path, shape in shapes.items():
        if path in arrays:
            _match(arrays[path].dimensions, shape, sizes)
    letters = [d.letter for a in arrays.values() for d in a.dimensions if d.letter]
    letters += [a.below for a in arrays.values() if a.below and not a.below.isdecimal()]
    taken = {size for known in sizes.values() for size in known}
    free = [size for size in (*SIZES, *range(14, 99)) if size not in taken]
    for letter in dict.fromkeys(letters):
        if letter not in sizes:
            sizes[letter] = ELLIPSIS if letter == "..." else (free.pop(0),)
    return {path: _text(array, sizes) for path, array in arrays.items()}


def _arrays(name, what):
    if re.match(r"(dict\b[^{(]*)?\{", what):
        if not re.match(r"[^{]*\{[^{}]*\}", what):
            return  # nested, or over several lines
        for key, inside in ENTRY.findall(what):
            if (dimensions := _dimensions(inside)) is not None:
                yield f"{name}.{key}", Documented("float", dimensions)
        return
    match = re.search(DIMENSIONS, what)
    dimensions = _dimensions(match[1]) if match else None
    if match is None or dimensions is None:
        return
    before, after = what[: match.start()].lower(), what[match.end() :]
    below = BELOW.match(after)
    tuple_like = len(dimensions) != 1 or "," in match[1] or ANY in dimensions
    named = "shape" in before or (tuple_like and re.search(r"array|float", before))
    sure = tuple_like and not before.strip()
    if below:
        yield name, Documented("int", dimensions, below[1])
    elif re.search(r"\bbool", before):
        yield name, Documented("bool", dimensions)
    elif (named or sure) and not NO_FLOATS.search(before + after):
        yield name, Documented("float", dimensions)


def _dimensions(text):
    """The dimensions between two parentheses, or None where they are something else."""
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        parts.pop()
    found = []
    for part in parts:
        match = DIMENSION.fullmatch(part)
        if not part or match is None:
            return None
        found.append(Dimension(int(match["factor"] or 1), match["letter"]))
    return tuple(found) if found.count(ANY) < 2 else None


def _match(dimensions, shape, sizes):
    """Learn the letters' sizes from a shape, where it has as many dimensions."""
    if ANY in dimensions:
        place = dimensions.index(ANY)
        end = len(shape) - (len(dimensions) - place - 1)
        if end < place:
            return
        sizes.setdefault("...", shape[place:end])
        dimensions = dimensions[:place] + dimensions[place + 1 :]
        shape = shape[:place] + shape[end:]
    if len(shape) != len(dimensions):
        return
    for dimension, size in zip(dimensions, shape, strict=True):
        if dimension.letter and dimension.factor and size % dimension.factor == 0:
            sizes.setdefault(dimension.letter, (size // dimension.factor,))


def _text(array, sizes):
    """A documented array as the text after an argument's name."""
    shape: list[int] = []
    for dimension in array.dimensions:
        known = sizes[dimension.letter] if dimension.letter else (1,)
        shape += [dimension.factor * size for size in known]
    text = ",".join(map(str, shape)) or "()"
    if array.kind == "int":
        size = int(array.below) if array.below.isdecimal() else sizes[array.below][0]
        return f"int:{text}:0..{max(size - 1, 0)}"
    return f"bool:{text}" if array.kind == "bool" else text

"""Names for a ratio: the numbers that a gradient is off by have a source in the shapes at hand."""

import itertools
import math
import numbers

import numpy as np

__all__ = ["name_of_ratio", "named_ratio"]


def named_ratio(ratio, view):
    """Where a ratio may come from, as (words, is it a size or an option of this problem), or None.

    Tried in the order of simplicity: small whole numbers, lengths of axes, their square roots,
    numbers among the keyword arguments, products of two lengths.
    """
    size = abs(ratio)
    tolerance = max(1e-6, view.relative / 10)
    if size == 0 or not math.isfinite(size):
        return None
    small = next(
        (text for value, text in _SMALL if abs(size - value) <= tolerance * value),
        None,
    )
    fitting = [
        text
        for value, text in _candidates(view)
        if value > 0 and abs(size - value) <= tolerance * value
    ]
    if not fitting:
        return (small, False) if small else None
    text, root = fitting[0], next((text for text in fitting if "root" in text), fitting[0])
    text += f"; or {root}" if root != text else ""  # sqrt(d) is forgotten more often than d
    return (f"{small}, or {text}" if small and small not in text else text), True


def name_of_ratio(ratio):
    """A ratio as a person writes it."""
    return f"{ratio:.4g}"


_SMALL = [(2.0, "2"), (0.5, "1/2"), (3.0, "3"), (1 / 3, "1/3"), (4.0, "4"), (0.25, "1/4")]
_SMALL += [(math.sqrt(2), "the square root of 2"), (math.sqrt(0.5), "1 / the square root of 2")]


def _candidates(view):
    lengths = list(_lengths(view))
    for n, where in lengths:
        yield n, f"{n}, and {n} is {where}"
        yield 1 / n, f"1/{n}, and {n} is {where}"
    for n, where in lengths:
        root = math.sqrt(n)
        yield root, f"the square root of {n}, and {n} is {where}"
        yield 1 / root, f"1 / the square root of {n}, and {n} is {where}"
    yield from _options(view.evidence.kwargs)
    for n, where in lengths:
        yield n / (n - 1), f"{n}/{n - 1}, and {n} is {where}"
        yield (n - 1) / n, f"{n - 1}/{n}, and {n} is {where}"
        yield n * n, f"{n} squared, and {n} is {where}"
        yield 1 / (n * n), f"1/{n} squared, and {n} is {where}"
    for (n, one), (m, other) in itertools.combinations(lengths, 2):
        yield n * m, f"{n * m} = {n} x {m}: {one} times {other}"
        yield 1 / (n * m), f"1/{n * m}, and {n * m} = {n} x {m}: {one} times {other}"
        yield n / m, f"{n}/{m}: {one} over {other}"
        yield m / n, f"{m}/{n}: {other} over {one}"


def _lengths(view):
    """Every length above one in the problem, with the first place where it occurs."""
    seen: dict[int, str] = {}
    arrays = [(view.name, view.value.shape)]
    arrays += [(name, np.shape(value)) for name, value in view.evidence.outputs]
    arrays += [(leaf.name, np.shape(leaf.value)) for leaf in view.evidence.leaves]
    arrays += [(key, v.shape) for key, v in _walk(view.evidence.kwargs) if hasattr(v, "shape")]
    for name, shape in arrays:
        for axis, n in enumerate(shape):
            seen.setdefault(n, f"the length of axis {axis} of {name}")
    for name, shape in arrays:
        seen.setdefault(math.prod(shape), f"the size of {name}")
    for name, value in _walk(view.evidence.kwargs):
        if getattr(value, "dtype", None) is not None and value.dtype.kind in "iub":
            for n, what in _counts(value):
                seen.setdefault(n, f"{what} {name}")
    for name, value in _walk(view.evidence.kwargs):
        if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0:
            seen.setdefault(int(value), name)
            for n, where in list(seen.items()):
                if value > 1 and n % value == 0 and where.startswith("the length"):
                    seen.setdefault(n // int(value), f"{where} / {name}")
    return [(n, where) for n, where in seen.items() if n > 1]


def _counts(value):
    """How many elements are set, or not negative: the tokens that count in a mean."""
    yield int(np.count_nonzero(value)), "the number of nonzero elements of"
    if value.dtype.kind == "i":
        yield int((value >= 0).sum()), "the number of elements that are not negative in"


def _options(kwargs):
    """Ratios made of the numbers among the keyword arguments."""
    for name, value in _walk(kwargs):
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            continue
        value = float(value)
        made = {
            f"{name}": value,
            f"1/{name}": 1 / value if value else 0.0,
            f"1 - {name}": 1 - value,
            f"1/(1 - {name})": 1 / (1 - value) if value != 1 else 0.0,
            f"the square of {name}": value * value,
            f"the square root of {name}": math.sqrt(abs(value)),
            f"1 / the square root of {name}": 1 / math.sqrt(abs(value)) if value else 0.0,
        }
        yield from ((abs(v), text) for text, v in made.items() if v and abs(abs(v) - 1) > 1e-3)


def _walk(tree, name=""):
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from _walk(child, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, list | tuple):
        for index, child in enumerate(tree):
            yield from _walk(child, f"{name}.{index}")
    elif tree is not None:
        yield name, tree
        if hasattr(tree, "__dataclass_fields__"):
            for key in tree.__dataclass_fields__:
                yield from _walk(getattr(tree, key), f"{name}.{key}")

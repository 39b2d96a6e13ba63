"""The smallest case that still fails, found by asking again and again.

First smaller shapes, then simpler values: a default option, no optional argument, zeros and ones,
whole numbers, an upstream gradient with a single 1. A step is kept where the check still fails in
the same way. A dimension of 1 is left for last: it hides more than it shows.
"""

import itertools
import time
import zlib

import numpy as np

from minillm.course.faults import Fault
from minillm.course.questions import Stopped, kind, says_nothing
from minillm.tree import leaves, map_leaves

__all__ = ["smallest"]

SEEDS = 2  # draws a shape
FEW = 24  # draws of cases whose shapes are not known here
TINY = (9.0, 0)  # product of the dimensions below which a case without ones is preferred
ONE_HOT = 4  # places of the upstream gradient that are tried


def smallest(questions, case, seed):
    """The smallest Failing that was found; None where the case holds when it is asked again."""
    try:
        first = questions.failing(case)
    except Stopped:
        return None
    if first is None:
        return None
    best = [first]  # what there is when time is up
    try:
        op = questions.run.op
        if op is None or op.own:  # the shapes are the assignment's own affair
            _smaller_draws(questions, best, seed)
        else:
            _smaller_shape(questions, best, seed)
        if op is not None:
            _simpler_values(questions, best)
    except Stopped:
        pass
    return best[0]


def _try(questions, best, case, strict=False):
    """Whether a case fails as the best one does; then it is the best one.

    It must say something, at least where the best one does; `strict`: in any case.
    """
    try:
        found = questions.failing(case)
    except (Stopped, Fault):
        raise
    except Exception:  # no case for the reference: a shape that does not fit, an axis too far
        return False
    if found is None or not _alike(questions.run, found, best[0]):
        return False
    if says_nothing(found) and (strict or not says_nothing(best[0])):
        return False
    best[0] = found
    return True


def _alike(run, one, other):
    """Whether two cases fail alike; a check of several answers fails by whichever of them."""
    several = run.op is not None and run.pick is None and not one.raised and not other.raised
    return kind(one)[several:] == kind(other)[several:]


def _smaller_draws(questions, best, seed):
    """Smaller sizes and other draws, by the assignment's own `make`."""
    run = questions.run
    key = zlib.crc32(f"{run.task}/{run.name}".encode())
    floor, asked = _amount(best[0].case), 0
    for size, draw in itertools.product(sorted(run.sizes), range(4)):
        if asked >= FEW or time.monotonic() > questions.until:
            return
        rng = np.random.default_rng(np.random.SeedSequence([seed, key, size, draw]))
        try:
            case = run.make(rng, size)
        except Exception:
            continue
        if _amount(case) > 2 * floor:
            return  # the sizes grow from here
        if _amount(case) < floor:
            asked += 1
            if _try(questions, best, case):
                floor = _amount(case)


def _amount(tree):
    """How much there is to read in a tree."""
    if isinstance(tree, np.ndarray):
        return 1 + tree.size
    if isinstance(tree, dict):
        return 1 + sum(_amount(k) + _amount(v) for k, v in tree.items())
    if isinstance(tree, list | tuple | set):
        return 1 + sum(map(_amount, tree))
    return 1 + len(tree) // 4 if isinstance(tree, str | bytes) else 1


def _smaller_shape(questions, best, seed):
    """Other sizes for the letters of the docstring's shapes: small ones first, then one by one."""
    original = best[0].case
    sizes = _sizes(questions.run.op, original)
    for all_of, leading in itertools.product((2, 3), ((), (2,), (2, 3))):
        small = {k: leading if k == "..." else (all_of,) for k in sizes}
        if _count(small) < max(_count(sizes), TINY) and _draws(
            questions, best, original, small, seed, strict=True
        ):
            sizes = small
            break
    for letter in [*(k for k in sizes if k == "..."), *(k for k in sizes if k != "...")]:
        for smaller in _less(letter, sizes[letter]):
            if _draws(questions, best, original, sizes | {letter: smaller}, seed):
                sizes = sizes | {letter: smaller}
                break


def _count(sizes):
    return float(np.prod([n for size in sizes.values() for n in size] or [1])), len(sizes)


def _less(letter, size):
    """Smaller sizes of a letter, the smallest first."""
    if letter != "...":
        return [(n,) for n in range(2, min(size[0], 4))]
    shorter = [size[i:] for i in range(len(size), 0, -1)]
    return [*shorter, tuple(min(n, 2) for n in size)] if size and max(size) > 2 else shorter


def _sizes(op, case):
    """{letter: (n,), "...": (n, ...)} of the arrays of a case, by the docstring's shapes."""
    held = dict(zip(case["names"], case["args"], strict=True)) | case["kwargs"]
    arrays = {name: x for name, x in leaves(held) if isinstance(x, np.ndarray)}
    found: dict[str, tuple[int, ...]] = {}
    for path, said in op.arrays.items():
        if path not in arrays:
            continue
        shape, letters = list(arrays[path].shape), [d.letter for d in said.dimensions]
        if "..." in letters:
            at = letters.index("...")
            after = len(letters) - at - 1
            found.setdefault("...", tuple(shape[at : len(shape) - after]))
            shape[at : len(shape) - after] = [0]
        for dimension, n in zip(said.dimensions, shape, strict=True):
            if dimension.letter and dimension.letter != "...":
                found.setdefault(dimension.letter, (n // dimension.factor,))
    return found


def _draws(questions, best, original, sizes, seed, strict=False):
    """Whether a case of these sizes fails; options and absent arguments as in the original."""
    op = questions.run.op
    dtypes = [x.dtype for _, x in leaves(original["args"]) if x.dtype.kind == "f"]
    for draw in range(SEEDS):
        rng = np.random.default_rng(np.random.SeedSequence([seed, draw]))
        large = {k: list(v) if k == "..." else v[0] for k, v in sizes.items()}
        try:
            case = op.draw(rng, 2, large=large, none=False, dtype=dtypes[0])
        except Exception:  # no such shape for this op
            return False
        absent = [x is None for x in original["args"]]
        args = [None if gone else x for gone, x in zip(absent, case["args"], strict=True)]
        options = {k: v for k, v in original["kwargs"].items() if k in op.options}
        case = case | {"args": args, "kwargs": case["kwargs"] | options}
        if _try(questions, best, case, strict):
            return True
    return False


def _simpler_values(questions, best):
    """Defaults, no optional arguments, zeros, ones, whole numbers, a single 1 upstream."""
    run = questions.run
    for name in run.op.options:
        kwargs = best[0].case["kwargs"]
        if name in kwargs:
            rest = {k: v for k, v in kwargs.items() if k != name}
            _try(questions, best, best[0].case | {"kwargs": rest})
    for i in reversed(range(len(run.op.positional))):
        for make in (_nothing(run.op, i), _zeros, _ones, np.round):
            x = best[0].case["args"][i]
            if make is None or x is None or (make is not np.round and i == 0):
                continue
            simple = None if make is _none else map_leaves(make, x)
            if make in (_zeros, _ones) and np.ndim(x) != 1:
                continue  # of a matrix that is all ones, no one sees a transpose
            args = [simple if j == i else a for j, a in enumerate(best[0].case["args"])]
            if _try(questions, best, best[0].case | {"args": args}):
                break
    _simpler_upstream(questions, best)


def _simpler_upstream(questions, best):
    """One 1 among zeros where that fails as well, else whole numbers."""
    dout = best[0].case["dout"]
    if isinstance(dout, np.ndarray) and questions.run.pick != ("out",):
        for i in range(min(dout.size, ONE_HOT)):
            single = np.zeros_like(dout)
            single.flat[i] = 1
            if _try(questions, best, best[0].case | {"dout": single}):
                return
    _try(questions, best, best[0].case | {"dout": map_leaves(np.round, dout)})


def _nothing(op, i):
    return _none if op.positional[i] in op.optional else None


def _none(x):
    return None


def _zeros(x):
    return np.zeros_like(x)


def _ones(x):
    return np.ones_like(x)

"""Where a gradient is wrong: the worst elements, by bisection where there are too many to try all.

The mismatch along a direction is a sum over its elements, so that two evaluations for one half
of a set tell the other half's mismatch too.
"""

import time

import numpy as np

from minillm.gradcheck.evidence import numeric_column

__all__ = ["elements_to_try", "worst_by_bisection", "worst_of"]

ALWAYS = 512  # elements of a leaf that are all tried, unless forward takes seconds for them
SECONDS = 3.0  # a larger leaf is tried whole if its function is fast enough for this
LEAST = 32  # elements that are tried of a leaf, however slow its function
SAMPLE = 192  # elements of a leaf that is not
LARGEST = 8_000_000  # numbers in a numeric Jacobian


def elements_to_try(problem, index, rng):
    """Flat indices of the elements whose derivatives are to be known: all, or some."""
    size = problem.leaves[index].value.size
    room = max(LARGEST // max(problem.flat.size, 1), 8)
    start = time.perf_counter()
    problem.evaluate({index: problem.leaves[index].value})
    seconds = 2 * (time.perf_counter() - start)  # for one element
    if size <= room and size * seconds < (3 * SECONDS if size <= ALWAYS else SECONDS):
        return np.arange(size)
    n = min(max(min(SAMPLE, int(SECONDS / seconds)), LEAST), room, size)
    return np.sort(rng.choice(size, n, replace=False))


def worst_of(analytic, numeric, tolerance, count=5):
    """(n_wrong or None, [(index, analytic, numeric)]) of the known elements, the worst first."""
    known = np.isfinite(numeric)
    off = np.where(known, np.abs(analytic - numeric), -1.0)
    size = float(np.sqrt(np.mean(numeric[known] ** 2))) if known.any() else 0.0
    wrong = off > tolerance * (np.maximum(np.abs(analytic), np.abs(numeric)) + size)
    order = np.argsort(-off, axis=None, kind="stable")[: min(count, int(known.sum()))]
    places = [np.unravel_index(flat, off.shape) for flat in order]
    if wrong.any():  # the others differ by rounding
        places = [place for place in places if wrong[place]]
    worst = [
        (tuple(int(i) for i in place), float(analytic[place]), float(numeric[place]))
        for place in places
        if off[place] > 0
    ]
    return (int(wrong[known].sum()) if known.all() else None), worst


def worst_by_bisection(problem, index, cotangent, gradient, h, rng, count=3):
    """[(index, analytic, numeric)] of a large leaf, about 2 log2(size) evaluations each."""
    shape = problem.leaves[index].value.shape
    found: dict[int, tuple[float, float]] = {}
    for _ in range(count):
        direction = rng.choice([-1.0, 1.0], gradient.size) * rng.uniform(0.5, 1.5, gradient.size)
        direction[list(found)] = 0
        element = _bisect(problem, index, cotangent, gradient.ravel(), direction, h)
        numeric = float(cotangent @ numeric_column(problem, index, element, h))
        found[element] = (float(gradient.flat[element]), numeric)
    worst = sorted(found.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
    largest = abs(worst[0][1][0] - worst[0][1][1])
    worst = [item for item in worst if abs(item[1][0] - item[1][1]) > 1e-3 * largest]
    return [
        (tuple(int(i) for i in np.unravel_index(element, shape)), *both) for element, both in worst
    ]


def _bisect(problem, index, cotangent, gradient, direction, h):
    """One element, by following the half with the larger mismatch."""

    def mismatch(start, stop):
        part = np.zeros_like(direction)
        part[start:stop] = direction[start:stop]
        x = problem.leaves[index].value
        ends = [problem.rounded(index, x + side * h * part.reshape(x.shape)) for side in (1, -1)]
        plus, minus = (problem.evaluate({index: end}) for end in ends)
        slope = float(cotangent @ (plus - minus))
        return slope - float(gradient @ (ends[0] - ends[1]).ravel())

    start, stop = 0, direction.size
    whole = mismatch(start, stop)
    while stop - start > 1:
        middle = (start + stop) // 2
        left = mismatch(start, middle)
        if abs(left) >= abs(whole - left):
            stop, whole = middle, left
        else:
            start, whole = middle, whole - left
    return start

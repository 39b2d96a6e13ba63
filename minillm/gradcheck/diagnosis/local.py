"""An elementwise factor is wrong: the derivative of another function, or taken elsewhere.

The ratio of the two Jacobians, entry by entry, then depends on some axes alone: those of the place
where the factor is applied, be it at the output, at the leaf or in between (y = f(x W1) W2).
"""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess
from minillm.gradcheck.diagnosis.slopes import follows

__all__ = ["elementwise", "outer"]

MOST_AXES = 7
LEAST_VALUES = 8  # from which an order is no accident
FEW = 0.3  # share of places where the numeric derivative may be lost in noise


def elementwise(view):
    """A ratio that varies along some axes and is the same along the others."""
    if not view.wrong.any():
        return
    found = []
    for shape, rows in _row_shapes(view):
        a = view.a[rows].reshape(*shape, *view.shape)
        n = view.n[rows].reshape(*shape, *view.shape)
        tol = np.broadcast_to(view.tol.reshape(view.shape), a.shape)
        bad = np.abs(a - n) > tol
        if not bad.any():
            continue
        field = _field(a, n, tol, len(shape), view.whole)
        if field is None:
            return
        found.append(field)
    _, ratios, sure = max(found, key=lambda field: (field[2], field[1].size))
    low, high = float(np.nanmin(ratios)), float(np.nanmax(ratios))
    if high - low <= view.relative * max(abs(low), abs(high), 1.0):
        return  # the same factor, or nothing, in a part of the gradient
    spread = f"(ratios from {low:.3g} to {high:.3g})"
    source = _source(view, ratios)
    if source is not None and source[0]:
        says = (
            f"is the true gradient times {source[1]} element by element: "
            "the value of another step is used, after instead of before."
        )
        yield Guess("wrong_step", 0.9, says)
        return
    if source is not None:
        says = f"is the true gradient times {source[1]} element by element {spread}."
        yield Guess("local_derivative", 0.9, says)
        return
    unit = not sure and view.whole and bool(np.all(np.abs(view.ka[~view.n_zero] - 1) <= 1e-6))
    what = "its derivative is taken as 1" if unit else "a local derivative is probably wrong"
    says = f"has the right pattern, but a factor is off element by element {spread}: {what}."
    if sure or unit or view.linear:
        yield Guess("local_derivative", 0.88 if unit else 0.82 if sure else 0.62, says)


def outer(view):
    """A weight's gradient is an outer product with the right upstream factor and a wrong value."""
    if not view.whole or len(view.shape) != 2 or view.known.size < view.size:
        return
    for axis in (0, 1):
        if view.shape[axis] < 2:
            continue
        fibres = list(_fibres(view, view.shape[axis]))
        used: set = set()
        for i in np.flatnonzero(view.full(view.wrong).any(1))[:200]:
            mine = _factor(view.a[i].reshape(view.shape), axis, view.relative)
            if mine is None:
                continue
            true = _factor(view.n[i].reshape(view.shape), axis, view.relative)
            if true is None and (np.abs(view.n[i]) > view.tol).any():
                continue  # a sum of several products
            here = _match(mine, fibres, view.relative)
            if here is None or (true is not None and abs(mine @ true) > 1 - view.relative):
                used.add(None)
                continue
            there = None if true is None else _match(true, fibres, view.relative)
            if here[2] or (there is not None and there[0] == here[0]):
                used.add(here[0])
        if len(used) == 1 and None not in used:
            name = used.pop()
            says = (
                f"is made with {name} of another step: the value after the step (or of a "
                "neighbour) stands where the one before is needed."
            )
            yield Guess("wrong_step", 0.88, says)
            return


def _row_shapes(view):
    if view.whole:
        return [(block.shape, block.rows) for block in view.blocks]
    return [((view.a.shape[0],), slice(None))]


def _field(a, n, tol, n_rows, whole):
    """(axes, ratios off one, sure) of the fewest axes on which a / n depends, or None.

    The first n_rows axes are the output's; unless `whole` they are random cotangents, on which
    nothing should depend. sure: each ratio is seen in more than one entry on average, so that it
    is more than a way to write the disagreement down.
    """
    live = np.isfinite(n) & (np.abs(n) > tol)
    if not live.any():
        return None
    # A saturated factor may leave next to nothing to compare with; a few such places are let be.
    dead = np.isfinite(n) & ~live & (np.abs(a) > tol)
    gone = np.nonzero(dead)
    long = [axis for axis in range(0 if whole else n_rows, a.ndim) if a.shape[axis] > 1]
    if len(long) > MOST_AXES:
        return None
    places = np.nonzero(live)
    values, true, slack = a[live], n[live], tol[live]
    for count in range(1, len(long) + 1):
        best = None
        for axes in itertools.combinations(long, count):
            shape = [a.shape[axis] for axis in axes]
            group = np.ravel_multi_index([places[axis] for axis in axes], shape)
            total = int(np.prod(shape))
            square = np.bincount(group, true * true, total)
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.bincount(group, true * values, total) / square
            off = np.abs(values - ratio[group] * true) > slack * np.maximum(1, abs(ratio[group]))
            if off.any():
                continue
            groups = int((square > 0).sum())
            lone = np.ravel_multi_index([gone[axis] for axis in axes], shape)
            rest = np.where(square[lone] > 0, ratio[lone] * n[dead] - a[dead], 0)
            if (np.abs(rest) > tol[dead] * np.maximum(1, np.abs(ratio[lone]))).any():
                continue
            empty = np.unique(lone[square[lone] == 0]).size
            if groups < 2 or empty > FEW * groups:
                continue
            if values.size >= 1.5 * groups and not _any_fits(group, values, true, slack):
                differs = np.zeros(total, dtype=bool)
                differs[group[np.abs(values - true) > slack]] = True
                boxed = _box(ratio.reshape(shape), differs.reshape(shape))
                if boxed is not None and (best is None or groups < best[3]):
                    best = axes, boxed, True, groups
        if best is not None:
            return best[:3]
    # An elementwise function: no output depends on two elements, and there is nothing to compare.
    rows = live.reshape(int(np.prod(a.shape[:n_rows], dtype=int)), -1).sum(1)
    if live.size == rows.size:
        return None  # one number for all: no pattern to have
    if not whole or values.size < 2 or rows.max() > 1 or dead.sum() > FEW * values.size:
        return None
    return (), values / true, False


def _any_fits(group, a, true, slack):
    """Whether ratios by group prove nothing: the true values are the same within each.

    Then only a function of the true value is more than other numbers in its place.
    """
    total = int(group.max()) + 1
    top, low = np.full(total, -np.inf), np.full(total, np.inf)
    np.maximum.at(top, group, true)
    np.minimum.at(low, group, true)
    if ((top - low)[group] > slack).any():
        return False
    _, one = np.unique(group, return_index=True)
    return one.size < LEAST_VALUES or not follows(a[one], true[one])


def _box(ratio, off):
    """The part of the ratios, cut to a box, that isn't one."""
    if not off.any():
        return None
    sides = []
    for axis in range(ratio.ndim):
        others = tuple(i for i in range(ratio.ndim) if i != axis)
        sides.append(np.flatnonzero(off.any(others)))
    return ratio[np.ix_(*sides)]


def _source(view, ratios):
    """(is it another step's value, words) where the ratios are values of the problem, or None."""
    ratios = np.squeeze(ratios)
    if ratios.size < 2:
        return None
    leaves = [(leaf.name, leaf.value, i) for i, leaf in enumerate(view.evidence.leaves)]
    outs = [(name, value, None) for name, value in view.evidence.outputs]
    arrays = [
        (name, np.squeeze(np.asarray(value, dtype=float)), i)
        for name, value, i in leaves + outs
        if np.squeeze(value).shape == ratios.shape
    ]
    for name, value, _ in arrays:
        if _alike(ratios, value):
            return False, name
        if _alike(ratios * value, np.ones_like(value)):
            return False, f"1 / {name}"
    for (top, p, i), (bottom, q, j) in itertools.permutations(arrays, 2):
        if _alike(ratios * q, p):
            return (i is None) and (j not in (None, view.index)), f"{top} / {bottom}"
    return None


def _alike(made, array):
    """Equal where there is a ratio; loose, for ratios of small derivatives are."""
    known = np.isfinite(made)
    top = np.abs(array).max()
    off = np.abs(made - array)[known]
    return known.sum() > 1 and top > 0 and bool((off <= 3e-3 * top).all())


def _factor(matrix, axis, relative):
    """The unit vector along `axis` of an outer product, or None where it isn't one."""
    place = np.unravel_index(np.argmax(np.abs(matrix)), matrix.shape)
    pivot = matrix[place]
    if pivot == 0 or min(matrix.shape) < 2:
        return None
    column, row = matrix[:, place[1]], matrix[place[0]]
    if np.abs(matrix - np.outer(column, row / pivot)).max() > relative * abs(pivot):
        return None
    vector = column if axis == 0 else row
    vector = vector / np.linalg.norm(vector)
    return vector if (np.abs(vector) > 1e-3).sum() > 1 else None


def _fibres(view, length):
    """(array's name, unit fibre, is it an output) for the last-axis fibres of a length."""
    arrays = [(leaf.name, leaf.value, False) for leaf in view.evidence.leaves]
    arrays += [(name, value, True) for name, value in view.evidence.outputs]
    for name, value, out in arrays:
        value = np.asarray(value, dtype=float)
        if value.ndim < 2 or value.shape[-1] != length or name == view.name:
            continue
        for fibre in value.reshape(-1, length)[:500]:
            norm = np.linalg.norm(fibre)
            if norm > 0:
                yield name, fibre / norm, out


def _match(vector, fibres, relative):
    for fibre in fibres:
        if abs(vector @ fibre[1]) > 1 - relative:
            return fibre[0], fibre[1], fibre[2]
    return None

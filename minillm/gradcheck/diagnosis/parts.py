"""One row, gate, head or block of the gradient is wrong and the rest is right."""

import numpy as np

from minillm.gradcheck.diagnosis._ratios import name_of_ratio, named_ratio
from minillm.gradcheck.diagnosis._view import Guess, axis_words, indices_words

__all__ = ["part"]


def part(view):
    """Disagreement in some slices along an axis of the leaf, or of one output, and in no other."""
    wrong = view.full(view.wrong)
    if not wrong.any():
        return
    columns = wrong.any(0).reshape(view.shape)
    seen = np.zeros(view.size, dtype=bool)
    seen[view.known] = (~view.n_zero | ~view.a_zero).any(0)
    best = _narrowest(columns, seen.reshape(view.shape))
    if best is not None:
        axis, indices, n = best
        where = f"at {indices_words(indices, n)} along {axis_words(axis, view.name)}"
        inside = np.isin(np.indices(view.shape)[axis].ravel()[view.known], indices)
        yield from _in_part(view, inside, where)
    if not view.whole:
        return
    for block in view.blocks:
        here = wrong[block.rows].any(1).reshape(block.shape)
        elsewhere = [b for b in view.blocks if b is not block and wrong[b.rows].any()]
        if elsewhere or not here.any():
            continue
        live = view.full(~view.n_zero | ~view.a_zero)[block.rows].any(1).reshape(block.shape)
        best = _narrowest(here, live)
        if best is not None:
            axis, indices, n = best
            where = f"{block.words(indices, axis)} of axis {axis} of {block.name}"
            says = f"is wrong for what comes from {where} and right for the rest."
            yield Guess("part_wrong", 0.62, says)
        elif len(view.blocks) > 1 and (ratio := _ratio(view, block)) is not None:
            times = name_of_ratio(ratio)
            says = (
                f"takes {times} times what comes from the output {block.name}, the rest is right."
            )
            sign = abs(ratio + 1) <= 10 * view.relative
            yield Guess("sign" if sign else "factor", 0.85, says, ratio)
        elif len(view.blocks) > 1 and block.shape != ():
            says = f"is wrong for what comes from the output {block.name}, right for the others."
            yield Guess("part_wrong", 0.4, says)


def _in_part(view, inside, where):
    """What is wrong within the part: zero, a sign, a factor, or something else."""
    a, n = view.ka[:, inside], view.kn[:, inside]
    tol = view.tol[view.known][inside]
    if (np.abs(a) <= tol).all():
        says = f"is zero {where}, where the true gradient isn't; the rest is right."
        yield Guess("part_wrong", 0.86, says, 0.0)
        return
    square = float(np.vdot(n, n))
    ratio = float(np.vdot(n, a)) / square if square else 0.0
    steady = square and np.all(np.abs(a - ratio * n) <= tol * max(1.0, abs(ratio)))
    if not steady:
        yield Guess("part_wrong", 0.84, f"is wrong {where}; the rest is right.")
        return
    named = named_ratio(ratio, view)
    if abs(ratio + 1) <= 10 * view.relative:
        says = f"has its sign turned {where} (ratio -1.000); the rest is right."
    else:
        source = f": {named[0]}" if named else ""
        says = (
            f"is {name_of_ratio(ratio)} times the true gradient {where}{source}; the rest is right."
        )
    yield Guess("part_wrong", 0.86, says, ratio)
    if named is not None and (~view.n_zero[:, inside]).sum() > 2:
        # Half of an array and more is not one gate: a scale that several parts share.
        sized = named[1] and (inside.mean() >= 0.5 or "square root" in named[0])
        yield Guess("factor", 0.88 if sized else 0.83, says, ratio)


def _ratio(view, block):
    """The one ratio, not zero, of an output's rows, or None."""
    a, n = view.ka[block.rows], view.kn[block.rows]
    square = float(np.vdot(n, n))
    ratio = float(np.vdot(n, a)) / square if square else 0.0
    off = np.abs(a - ratio * n) > view.tol[view.known] * max(1.0, abs(ratio))
    return None if off.any() or abs(ratio) < 1e-6 else ratio


def _narrowest(flags, live):
    """(axis, indices, length) of the axis along which the flags fill the smallest share."""
    best = None
    for axis, n in enumerate(flags.shape):
        others = tuple(i for i in range(flags.ndim) if i != axis)
        marked = np.flatnonzero(flags.any(others))
        right = np.flatnonzero(live.any(others) & ~flags.any(others))
        if right.size == 0:
            continue
        share = marked.size / (marked.size + right.size)
        if best is None or share < best[0]:
            best = share, axis, marked.tolist(), n
    return best[1:] if best else None

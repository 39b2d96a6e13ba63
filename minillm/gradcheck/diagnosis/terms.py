"""A term that the true gradient subtracts is missing: of softmax, of a norm, of a loss.

Such a term couples the elements of a row by one number (a sum over the row), so what is missing has
rank one along the row, while the gradient itself has not. Often it is what makes the true gradient
sum to zero over the row, or stand at right angles to the row of x.
"""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words

__all__ = ["coupling", "loss_term", "low_rank"]

FEW = 3  # distinct values that a constant missing at some places leaves, zero among them


def low_rank(view):
    """The missing part has rank one along an axis, of the leaf or of the output."""
    if not view.whole or view.known.size < view.size or not view.wrong.any():
        return
    gap = view.a - view.n
    zero = max(np.abs(gap).max(), np.abs(view.n).max()) * view.relative
    found = []
    for axes in _subsets(view.shape):
        order, width = _fibres(view.shape, axes)
        parts = [(gap[:, i], view.n[:, i], view.a[:, i]) for i in order]
        rank = _rank_of_gap(parts, zero)
        if rank:
            broken = _broken(view, order) or _times_output(view, parts, zero)
            where = " and ".join(axis_words(axis, view.name) for axis in axes)
            found.append((rank, broken, where, width))
    if not any(broken for _, broken, *_ in found):
        found += [*_output_side(view, gap, zero), *_both_sides(view, gap, zero)]
    if not found:
        return
    rank, broken, where, _ = min(found, key=lambda f: (f[1] is None, f[0]))
    terms = "one sum" if rank == 1 else "two sums"
    likelihood = (0.6 if rank == 1 else 0.4) + (0.28 if broken else 0)
    also = f", and {broken}" if broken else ""
    says = (
        f"differs from the true gradient by {terms} over {where}{also}: "
        "a subtracted term (of a softmax, a mean, a norm) is probably missing."
    )
    yield Guess("missing_term", likelihood, says)


def loss_term(view):
    """A scalar's gradient lacks a constant at some places, or an array among the arguments."""
    if view.a.shape[0] != 1 or view.known.size < 2 or not view.wrong.any():
        return
    gap = (view.ka - view.kn)[0]
    tol = float(view.tol[view.known].max())
    if _distinct(gap, tol) <= FEW < min(_distinct(view.ka[0], tol), _distinct(view.kn[0], tol)):
        top = gap[np.argmax(np.abs(gap))]
        says = (
            f"differs from the true gradient by the same {top:+.4g} at {int(view.wrong.sum())} "
            "elements and agrees elsewhere up to a constant: a term of the loss (such as the "
            "target's one) is probably missing."
        )
        yield Guess("missing_term", 0.86, says)
        return
    arrays = [(leaf.name, leaf.value) for leaf in view.evidence.leaves]
    arrays += [(k, v) for k, v in view.evidence.kwargs.items() if hasattr(v, "dtype")]
    for name, array in arrays:
        if array.dtype.kind not in "fiub" or array.size != view.size or view.size < 3:
            continue
        other = np.asarray(array, dtype=float).ravel()[view.known]
        square = float(other @ other)
        ratio = float(other @ gap) / square if square else 0.0
        if ratio and np.abs(gap - ratio * other).max() <= tol:
            says = f"differs from the true gradient by {ratio:+.4g} times {name}: that term is off."
            yield Guess("missing_term", 0.85, says, ratio)
            return


def coupling(view):
    """Each element's own share is right, but what it takes from the others of its row is not."""
    if not view.whole or len(view.blocks) != 1 or view.blocks[0].shape != view.shape:
        return
    own = np.eye(view.size, dtype=bool)
    wrong, true = view.full(view.wrong), view.full(~view.n_zero)
    if not wrong.any() or (wrong & own).any() or (true & ~wrong & ~own).any():
        return
    if (wrong & ~view.full(view.a_zero)).any():
        return
    for axes in _subsets(view.shape):
        broken = _broken(view, _fibres(view.shape, axes)[0])
        if broken:
            says = (
                f"treats the elements of {view.name} one by one, but {broken} along "
                f"{' and '.join(axis_words(axis, view.name) for axis in axes)}: the terms between "
                "different elements are missing."
            )
            yield Guess("missing_term", 0.88, says)
            return


def _times_output(view, parts, zero):
    """Whether what is missing is the output times one number for each upstream gradient."""
    out = np.concatenate([np.ravel(value) for _, value in view.evidence.outputs])
    seen = 0
    for gap, _, _ in parts:
        if np.abs(gap).max(initial=0.0) <= zero:
            continue
        left, values, _ = np.linalg.svd(gap, full_matrices=False)
        if values[1:].max(initial=0.0) > zero * np.sqrt(max(gap.shape)):
            return None
        rows = (np.abs(gap) > zero).any(1)
        fibre = out * rows
        if rows.sum() < 2 or abs(left[:, 0] @ fibre) < (1 - 1e-4) * np.linalg.norm(fibre):
            return None
        seen += 1
    return "it is the output times one number for each row" if seen else None


def _output_side(view, gap, zero):
    """Rank one along an axis of the output, whatever the leaf's element."""
    for block in view.blocks:
        if len(view.blocks) > 1:
            return
        for axes in _subsets(block.shape):
            order, width = _fibres(block.shape, axes)
            parts = [(gap[i], view.n[i], view.a[i]) for i in order]
            rank = _rank_of_gap(parts, zero)
            if rank:
                where = " and ".join(f"axis {a} of {block.name}" for a in axes)
                yield rank, None, where, width


def _both_sides(view, gap, zero):
    """Rank one between an axis of the output and one of the leaf, the other indices held."""
    if len(view.blocks) > 1:
        return
    block = view.blocks[0]
    for one, two in itertools.product(range(len(block.shape)), range(len(view.shape))):
        if block.shape[one] < 2 or view.shape[two] < 3:
            continue
        rows, _ = _fibres(block.shape, (one,))
        columns, width = _fibres(view.shape, (two,))
        if len(rows) * len(columns) > 4000:
            continue
        pairs = [np.ix_(r, c) for r in rows for c in columns]
        rank = _rank_of_gap([(gap[p], view.n[p], view.a[p]) for p in pairs], zero)
        if rank == 1:
            broken = _broken(view, columns)
            if broken:
                yield rank, broken, axis_words(two, view.name), width


def _rank_of_gap(parts, zero):
    """1 or 2 where each part of the gap has at most that rank, and the gradient has more."""
    rank, richer, room = 0, False, 0
    for gap, numeric, analytic in parts:
        top = np.abs(gap).max(initial=0.0)
        if top <= zero:
            continue
        live = (np.abs(numeric) > zero).any(1) | (np.abs(analytic) > zero).any(1)
        room = max(room, min(int(live.sum()), gap.shape[1]))
        if min((np.abs(gap) > zero).any(axis).sum() for axis in (0, 1)) < 2:
            return 0  # one wrong column or row is of rank one whatever the mistake
        mine = _rank(gap, zero)
        rank = max(rank, mine)
        richer |= max(_rank(numeric, zero), _rank(analytic, zero)) > mine
        if rank > 2:
            return 0
    if rank == 0 or not richer or room <= rank or (rank == 2 and room < 4):
        return 0
    return rank


def _rank(matrix, zero):
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > zero * np.sqrt(max(matrix.shape))).sum())


def _broken(view, fibres):
    """What holds for the true gradient along these fibres and not for the analytic one, or None."""
    x = view.value.ravel()

    def ones(i):
        return np.ones(len(i))

    def centred(i):
        return x[i] - x[i].mean()

    # A norm's eps spoils the right angle by about eps / var: a loose bound for these two.
    kinds = [
        (ones, 10 * view.relative, "the true gradient sums to zero there, this one doesn't"),
        (centred, 0.02, f"the true gradient is at right angles to the centred {view.name}"),
        (lambda i: x[i], 0.02, f"the true gradient is at right angles to {view.name}"),
    ]
    for direction, bound, words in kinds:
        true = _along(view.n, fibres, direction)
        if true < bound and _along(view.a, fibres, direction) > max(0.05, 10 * true):
            return words
    return None


def _along(jacobian, fibres, direction):
    """How much of the Jacobian points along the directions, relative to its size."""
    dots = size = 0.0
    for i in fibres:
        v = direction(i)
        dots = max(dots, float(np.abs(jacobian[:, i] @ v).max(initial=0.0)))
        size = max(size, float((np.abs(jacobian[:, i]) @ np.abs(v)).max(initial=0.0)))
    return dots / size if size else 0.0


def _subsets(shape):
    """Sets of axes, smallest first, along which a sum may run."""
    long = [axis for axis, n in enumerate(shape) if n > 1]
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(reversed(long), count):
            if np.prod([shape[axis] for axis in axes]) > 1:
                yield axes


def _fibres(shape, axes):
    """Flat indices of each fibre along `axes`, and its length."""
    size = int(np.prod(shape, dtype=int))
    flat = np.moveaxis(np.arange(size).reshape(shape), axes, range(-len(axes), 0))
    width = int(np.prod([shape[axis] for axis in axes], dtype=int))
    return flat.reshape(-1, width), width


def _distinct(values, tol):
    """How many values differ by more than tol."""
    return 1 + int((np.diff(np.sort(values)) > 2 * tol).sum())

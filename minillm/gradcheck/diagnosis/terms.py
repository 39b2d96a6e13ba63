"""A term that the true gradient subtracts is missing: of softmax, of a norm, of a loss.

Such a term couples the elements of a row by one number (a sum over the row), so what is missing has
rank one along the row, while the gradient itself has not. Often it is what makes the true gradient
sum to zero over the row, or stand at right angles to the row of x.
"""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words

__all__ = ["along_itself", "coupling", "low_rank"]


def low_rank(view):
    """The missing part has rank one along an axis, of the leaf or of the output."""
    if not view.whole or view.known.size < view.size or not view.wrong.any():
        return
    gap = view.a - view.n
    zero = max(np.abs(gap).max(), np.abs(view.n).max()) * view.relative
    found = []
    for axes in _subsets(view.shape):
        order = _fibres(view.shape, axes)
        parts = [side[:, order].swapaxes(0, 1) for side in (gap, view.n, view.a)]
        rank = _rank_of_gap(parts, zero)
        if rank:
            broken = _broken(view, order) or _times_output(view, parts[0], zero)
            where = " and ".join(axis_words(axis, view.name) for axis in axes)
            found.append((rank, broken, where))
    if not any(broken for _, broken, _ in found):
        found += [*_output_side(view, gap, zero), *_both_sides(view, gap, zero)]
    if not found:
        return
    rank, broken, where = min(found, key=lambda f: (f[1] is None, f[0]))
    terms = "one sum" if rank == 1 else "two sums"
    likelihood = (0.6 if rank == 1 else 0.4) + (0.3 if broken else 0)
    also = f", and {broken}" if broken else ""
    says = (
        f"differs from the true gradient by {terms} over {where}{also}: "
        "a subtracted term (of a softmax, a mean, a norm) is probably missing."
    )
    yield Guess("missing_term", likelihood, says)


def coupling(view):
    """Each element's own share is right, but what it takes from the others of its row is not."""
    if not view.whole or len(view.blocks) != 1 or view.blocks[0].shape != view.shape:
        return
    own = np.eye(view.size, dtype=bool)
    wrong, true = view.full(view.wrong), view.full(~view.n_zero)
    if not wrong.any() or (wrong & own).any() or (true & ~wrong & ~own).any():
        return
    alone = not (wrong & ~view.full(view.a_zero)).any()
    for axes in _subsets(view.shape):
        broken = _broken(view, _fibres(view.shape, axes))
        if broken:
            how = "takes the elements of" if alone else "takes the wrong elements together in"
            says = (
                f"{how} {view.name}{' one by one' if alone else ''}, but {broken} along "
                f"{' and '.join(axis_words(axis, view.name) for axis in axes)}: the terms between "
                "different elements are missing."
            )
            yield Guess("missing_term", 0.88 if alone else 0.8, says)
            return


def along_itself(view):
    """What is missing points along x, to which the true gradient is at right angles."""
    if not view.whole or view.known.size < view.size or not view.wrong.any():
        return
    x = view.value.ravel()
    for axis in reversed(range(len(view.shape))):
        if view.shape[axis] < 3:
            continue
        fibres = _fibres(view.shape, (axis,))
        units = x[fibres] / np.linalg.norm(x[fibres], axis=1, keepdims=True)
        gap = (view.a - view.n)[:, fibres]
        share = np.einsum("rkn,kn->rk", gap, units)
        if not np.isfinite(units).all() or np.abs(share).max() <= 10 * view.tol.max():
            continue
        if np.abs(gap - share[..., None] * units).max() > view.tol.max():
            continue
        if _along(view.n, fibres, lambda i: x[i]) < 1e-4:
            says = (
                f"differs from the true gradient along {view.name} itself, to which that one is at "
                f"right angles over {axis_words(axis, view.name)}: the term that a norm takes off "
                "is missing."
            )
            yield Guess("missing_term", 0.91, says)
            return


def _times_output(view, gap, zero):
    """Whether what is missing is the output times one number for each upstream gradient."""
    out = np.concatenate([np.ravel(value) for _, value in view.evidence.outputs])
    if out.size != gap.shape[1]:
        return None
    seen = 0
    for part in gap:
        if np.abs(part).max(initial=0.0) <= zero:
            continue
        left = part[:, np.argmax(np.abs(part).max(0))]
        rows = (np.abs(part) > zero).any(1)
        fibre = out * rows
        parallel = abs(left @ fibre) >= (1 - 1e-4) * np.linalg.norm(fibre) * np.linalg.norm(left)
        if rows.sum() < 2 or not parallel:
            return None
        seen += 1
    return "it is the output times one number for each row" if seen else None


def _output_side(view, gap, zero):
    """Rank one along an axis of the output, whatever the leaf's element."""
    if len(view.blocks) > 1:
        return
    for axes in _subsets(view.blocks[0].shape):
        order = _fibres(view.blocks[0].shape, axes)
        rank = _rank_of_gap([side[order] for side in (gap, view.n, view.a)], zero)
        if rank:
            yield rank, None, " and ".join(axis_words(a, view.blocks[0].name) for a in axes)


def _both_sides(view, gap, zero):
    """Rank one between an axis of the output and one of the leaf, the other indices held."""
    if len(view.blocks) > 1:
        return
    block = view.blocks[0]
    for one, two in itertools.product(range(len(block.shape)), range(len(view.shape))):
        if block.shape[one] < 2 or view.shape[two] < 3:
            continue
        rows, columns = _fibres(block.shape, (one,)), _fibres(view.shape, (two,))
        broken = _broken(view, columns)
        if not broken:
            continue
        parts = []
        for side in (gap, view.n, view.a):
            cut = side[rows][:, :, columns].swapaxes(1, 2)  # (outer rows, outer columns, m, n)
            parts.append(cut.reshape(-1, *cut.shape[2:]))
        if _rank_of_gap(parts, zero) == 1:
            yield 1, broken, axis_words(two, view.name)


def _rank_of_gap(parts, zero):
    """1 or 2 where each part (k, m, n) of the gap has at most that rank, and the gradient more."""
    gap, numeric, analytic = parts
    hit = np.abs(gap).max((1, 2)) > zero
    gap, numeric, analytic = gap[hit], numeric[hit], analytic[hit]
    if not hit.any():
        return 0
    wrong = np.abs(gap) > zero
    if min(wrong.any(axis).sum(1).min() for axis in (1, 2)) < 2:
        return 0  # one wrong column or row is of rank one whatever the mistake
    ranks = _ranks(gap, zero)
    rank = int(ranks.max())
    live = ((np.abs(numeric) > zero) | (np.abs(analytic) > zero)).any(2).sum(1)
    room = min(int(live.max()), gap.shape[2])
    if rank > 2 or room <= rank or (rank == 2 and room < 4):
        return 0
    richer = (_ranks(numeric, zero) > ranks).any() or (_ranks(analytic, zero) > ranks).any()
    return rank if richer else 0


def _ranks(stack, zero):
    """(k,) ranks of (k, m, n), 3 for three and more: the largest entry's cross is taken off."""
    ranks = np.zeros(len(stack), dtype=int)
    near = zero * np.sqrt(max(stack.shape[1:]))
    every = np.arange(len(stack))
    for rank in range(1, 4):
        flat = np.abs(stack).reshape(len(stack), -1).argmax(1)
        i, j = np.unravel_index(flat, stack.shape[1:])
        pivot = stack[every, i, j]
        more = np.abs(pivot) > near
        ranks[more & (ranks == rank - 1)] = rank
        row = stack[every, i] / np.where(more, pivot, np.inf)[:, None]
        stack = stack - stack[every, :, j][:, :, None] * row[:, None, :]
    return ranks


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
    v = np.array([direction(i) for i in fibres])  # (k, n)
    cut = jacobian[:, fibres]  # (rows, k, n)
    size = np.einsum("rkn,kn->rk", np.abs(cut), np.abs(v)).max(initial=0.0)
    return float(np.abs(np.einsum("rkn,kn->rk", cut, v)).max(initial=0.0) / size) if size else 0.0


def _subsets(shape):
    """Sets of axes, smallest first, along which a sum may run."""
    long = [axis for axis, n in enumerate(shape) if n > 1]
    for count in (1, 2):
        for axes in itertools.combinations(reversed(long), count):
            if np.prod([shape[axis] for axis in axes]) > 1:
                yield axes


def _fibres(shape, axes):
    """(k, n) flat indices of each fibre along `axes`."""
    size = int(np.prod(shape, dtype=int))
    flat = np.moveaxis(np.arange(size).reshape(shape), axes, range(-len(axes), 0))
    return flat.reshape(-1, int(np.prod([shape[axis] for axis in axes], dtype=int)))

"""Contributions that never arrive: entries of the Jacobian that are zero and should not be.

Everything else is right, so the lost entries' own pattern tells the mistake: whole outputs, all but
some positions along an axis, other times than one's own, all but the last of repeated uses.
"""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words

__all__ = [
    "broadcast_back",
    "direct_path",
    "lost",
    "one_step_right",
    "straight_alone",
    "through_time",
]


def lost(view):
    """Right or zero, entry by entry: name what the lost entries have in common."""
    if not view.whole:
        return
    gone = view.wrong & view.a_zero
    if not gone.any() or not np.array_equal(gone, view.wrong):
        return
    kept = ~view.n_zero & ~gone
    if not kept.any():
        return
    yield from itertools.chain(
        _outputs(view, gone, kept), _positions(view, gone, kept), _uses(view, gone, kept)
    )


def through_time(view):
    """Right where output and leaf stand at the same step, zero elsewhere."""
    if not view.whole or not view.wrong.any():
        return
    for block, one, two in _pairs(view):
        full_wrong = view.full(view.wrong)[block.rows]
        gone = not (full_wrong & ~view.full(view.a_zero)[block.rows]).any()
        away = _steps_between(view, block, one, two) != 0
        true = view.full(~view.n_zero)[block.rows]
        if not full_wrong.any() or not (true & away).any():
            continue
        if (full_wrong & ~away).any() or ((true & away) & ~full_wrong).any():
            continue
        if not (true & ~away).any() or _both_ways(view, block, true, one, two):
            continue
        n = view.shape[two]
        says = (
            f"holds only what each of the {n} steps along {axis_words(two, view.name)} gives to "
            "its own output: what flows back from the other steps is lost (+= needed)."
        )
        if not gone:
            says = (
                f"is right for each step's own output along {axis_words(two, view.name)} and wrong "
                "between steps: what flows back through time is lost (+= needed)."
            )
        # The first axis may as well be the batch's or the layers'.
        yield Guess("overwritten", 0.92 if gone else 0.82 if two else 0.75, says)
        return


def direct_path(view):
    """What is missing goes element by element from the leaf to the output: a residual path."""
    if not view.whole or not view.wrong.any():
        return
    for block in view.blocks:
        if block.shape != view.shape or view.size < 2:
            continue
        wrong = view.full(view.wrong)
        others = [other for other in view.blocks if other is not block]
        if any(wrong[other.rows].any() for other in others):
            continue
        own = np.eye(view.size, dtype=bool)
        here, true = wrong[block.rows], view.full(~view.n_zero)[block.rows]
        if (here & ~own).any() or not (true & ~own).any():
            continue
        gap = np.diag(view.a[block.rows] - view.n[block.rows])[view.known]
        even = np.ptp(gap) <= 10 * view.tol.max()
        what = f"by {-np.mean(gap):.4g} everywhere" if even else "element by element"
        says = (
            f"lacks what goes straight to the same place of {block.name} ({what}): the second use "
            f"of {view.name}, such as a residual, is probably not added (+=)."
        )
        yield Guess("overwritten", 0.9 if even else 0.7, says)
        return


def straight_alone(view):
    """What arrives goes element by element, though elements act on others' outputs too."""
    if not view.whole or not view.wrong.any() or view.known.size < view.size:
        return
    for block in view.blocks:
        if block.shape != view.shape or view.size < 2:
            continue
        own = np.eye(view.size, dtype=bool)
        a, n = view.a[block.rows], view.n[block.rows]
        if (np.abs(a[~own]) > np.broadcast_to(view.tol, a.shape)[~own]).any():
            continue
        if (np.abs(n[~own]) <= np.broadcast_to(view.tol, a.shape)[~own]).all():
            continue
        straight = np.diag(a)
        even = np.ptp(straight) <= view.tol.max() and abs(straight[0]) > view.tol.max()
        if not even and not (np.abs(straight - np.diag(n)) > view.tol).any():
            continue  # the terms between elements alone: not a path
        says = (
            f"takes only what goes straight to the same place of {block.name}: the other use of "
            f"{view.name} is probably lost (+= needed)."
        )
        yield Guess("overwritten", 0.85 if even else 0.65, says)
        return


def one_step_right(view):
    """A shared leaf's gradient is right for the first (or last) step of the output alone."""
    if not view.whole or not view.wrong.any():
        return
    wrong, true = view.full(view.wrong), view.full(~view.n_zero)
    places = [(block, axis) for block in view.blocks for axis in range(len(block.shape))]
    for block, axis in places:
        n = block.shape[axis]
        if n < 2:
            continue
        w = np.moveaxis(wrong[block.rows].reshape(*block.shape, -1), axis, 0)
        t = np.moveaxis(true[block.rows].reshape(*block.shape, -1), axis, 0)
        steps = w.reshape(n, -1).any(1)
        shared = t.reshape(n, -1, view.size).any(1).all(0).any()
        for right, words in ((0, "first"), (n - 1, "last")):
            if shared and not steps[right] and steps.sum() == n - 1:
                says = (
                    f"is right for the {words} step along axis {axis} of {block.name} and wrong "
                    "for the others: contributions of several steps are probably not added up (+=)."
                )
                yield Guess("overwritten", 0.72, says)
                return


def broadcast_back(view):
    """The gradient is the true one summed or averaged along an axis and spread over it again."""
    for axis, n in enumerate(view.shape):
        if n < 2 or view.known.size < view.size:
            continue
        true = view.n.reshape(-1, *view.shape)
        for how, expected in (("sum", true.sum(axis + 1)), ("mean", true.mean(axis + 1))):
            if np.abs(expected).max() < 1e-6 * np.abs(true).max():
                continue  # the true one sums to zero there: this would explain any lost gradient
            spread = np.broadcast_to(np.expand_dims(expected, axis + 1), true.shape)
            if view.fits(spread.reshape(view.n.shape)):
                says = (
                    f"is the {how} of the true gradient along {axis_words(axis, view.name)}: "
                    "summed over an axis that should stay."
                )
                yield Guess("missing_sum", 0.85, says)
                return


def _outputs(view, gone, kept):
    """One of several outputs never reaches the leaf."""
    dead = [b for b in view.blocks if gone[b.rows].any() and not kept[b.rows].any()]
    alive = [b for b in view.blocks if kept[b.rows].any()]
    if dead and all(not gone[b.rows].any() for b in alive):
        names = " and ".join(b.name for b in dead)
        if _used_elsewhere(view, dead):
            says = f"takes nothing from the output {names}, though others do: += is needed."
            yield Guess("overwritten", 0.94, says)
            return
        says = f"takes nothing from the output {names}: its upstream gradient is not used."
        yield Guess("upstream_ignored", 0.94, says)


def _used_elsewhere(view, blocks):
    """Whether a gradient that is right takes something from these outputs."""
    for index in range(len(view.evidence.leaves)):
        if index not in view.evidence.failed:
            true = view.reaches(index)
            if true is not None and any(true[b.rows].any() for b in blocks):
                return True
    return False


def _positions(view, gone, kept):
    """Only some positions along an axis of the output arrive."""
    live = [b for b in view.blocks if gone[b.rows].any()]
    most = max(len(b.shape) for b in live)
    for used in itertools.chain(
        ((axis,) for axis in range(most)), itertools.combinations(range(most), 2)
    ):
        shown = []
        for block in live:
            if max(used) >= len(block.shape):
                break
            g = gone[block.rows].reshape(*block.shape, -1)
            k = kept[block.rows].reshape(*block.shape, -1)
            shown_here = _kept_box(g, k, used)
            if shown_here is None:
                break
            shared = (k.any(tuple(range(len(block.shape)))) & _any(g)).any()
            shown.append((block, shown_here, shared))
        if len(shown) < len(live):
            continue
        block, box, shared = shown[0]
        words = " and ".join(
            f"{block.words(i, axis)} of axis {axis}" for axis, i in zip(used, box, strict=True)
        )
        if shared:
            says = (
                f"only answers to {words} of {block.name}: "
                "the sum over the other positions is missing."
            )
            # A loop that assigns for += ends at the last; a sum forgotten starts at the first.
            last = all(
                len(i) == 1 and i[0] == block.shape[axis] - 1
                for axis, i in zip(used, box, strict=True)
            )
            part = any(
                1 < len(i) < block.shape[axis] and np.ptp(i) == len(i) - 1
                for axis, i in zip(used, box, strict=True)
            )
            if part:  # a sum that is forgotten keeps one position; so many are another path
                says = (
                    f"only answers to {words} of {block.name}: what comes through the rest of it "
                    "is lost (+= needed)."
                )
                yield Guess("overwritten", 0.93, says)
            yield Guess("missing_sum", 0.6 if part else 0.9 if last else 0.93, says)
        else:
            says = f"is zero but for what comes from {words} of {block.name}; the rest is right."
            yield Guess("part_wrong", 0.85, says)
        return


def _kept_box(gone, kept, used):
    """Indices along the axes `used` whose product is just where entries are kept, or None."""
    rest = tuple(axis for axis in range(gone.ndim) if axis not in used)
    g, k = gone.any(rest), kept.any(rest)
    if (g & k).any() or not k.any():
        return None
    alone = [tuple(other for other in range(k.ndim) if other != axis) for axis in range(k.ndim)]
    box = [np.flatnonzero(k.any(others)) for others in alone]
    inside = np.zeros(k.shape, dtype=bool)
    inside[np.ix_(*box)] = True
    if (inside & g).any() or any(len(i) == n for i, n in zip(box, k.shape, strict=True)):
        return None
    return [i.tolist() for i in box]


def _uses(view, gone, kept):
    """Of several contributions to an element the last written (or the first) alone survives."""
    columns = np.flatnonzero(gone.any(0) & kept.any(0))
    if columns.size == 0 or (gone.any(0) & ~kept.any(0)).any():
        return
    last = first = True
    for j in columns:
        g, k = np.flatnonzero(gone[:, j]), np.flatnonzero(kept[:, j])
        last &= g.max() < k.min()
        first &= k.max() < g.min()
    if last or first:
        which = "last" if last else "first"
        says = (
            f"keeps only the {which} of the contributions to {columns.size} of its elements, "
            "where the others are lost: = where += is needed."
        )
        yield Guess("overwritten", 0.92 if last else 0.9, says)
        return
    share = gone.sum() / (gone.sum() + kept.sum())
    says = f"lacks {share:.0%} of its contributions, the others are right: += is probably needed."
    yield Guess("overwritten", 0.6, says)


def _pairs(view):
    """(output, its axis, axis of the leaf) of the same length above one."""
    for block in view.blocks:
        for one, two in itertools.product(range(len(block.shape)), range(len(view.shape))):
            if block.shape[one] == view.shape[two] > 1:
                yield block, one, two


def _both_ways(view, block, true, one, two):
    """Whether steps along the axes act on earlier ones as well as on later: no recurrence."""
    between = _steps_between(view, block, one, two)
    return bool((true & (between > 0)).any() and (true & (between < 0)).any())


def _steps_between(view, block, one, two):
    """The output's index along its axis `one` less the leaf's along `two`."""
    out = np.indices(block.shape)[one].reshape(-1, 1)
    return out - np.indices(view.shape)[two].reshape(1, -1)


def _any(entries):
    return entries.any(tuple(range(entries.ndim - 1)))

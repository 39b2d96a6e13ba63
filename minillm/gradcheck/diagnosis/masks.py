"""A mask that the forward applies and the backward doesn't, or another one than the forward's."""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess

__all__ = ["mask"]


def mask(view):
    """Zero in the numeric Jacobian where the analytic is not; elsewhere they agree."""
    gained = view.n_zero & ~view.a_zero
    if not gained.any():
        return
    if view.n_zero.all():
        if view.inside:
            return  # of an array worked out, nothing may be left but rounding
        says = "is not zero, but the true gradient is: a mask or gate of the forward shuts it off."
        yield Guess("mask_forgotten", 0.6, says)
        return
    both = ~view.n_zero & ~view.a_zero
    dropped = ~view.n_zero & view.a_zero
    named = _named_by_option(view) or (None if dropped.any() else _from_later(view))
    if named:
        yield Guess("mask_forgotten", 0.94, f"is not zero {named}.")
        return
    ratio, steady = _steady(view, both)
    masked = _has_mask(view.evidence)
    if not steady:
        if masked and not dropped.any() and gained.sum() < 0.9 * view.n_zero.sum():
            says = (
                f"is not zero in {int(gained.sum())} places where a mask makes the true gradient "
                "zero: backward's weights are probably made without the mask."
            )
            yield Guess("mask_forgotten", 0.845, says)
        return
    rows, columns = view.n_zero.all(1), view.n_zero.all(0)
    whole = bool((gained <= (rows[:, None] | columns[None, :])).all())
    count = int(gained.sum())
    if dropped.any():
        kept = int(both.sum())
        if kept == 0 and not whole:
            return
        says = (
            f"lets through {count} entries of the Jacobian that the forward stops and stops "
            f"{int(dropped.sum())} that it lets through: another mask than the forward's, perhaps "
            "turned."
        )
        yield Guess("mask_forgotten", 0.8 if whole else 0.45, says)
        return
    if not both.any():
        return
    scaled = ratio is not None and abs(ratio - 1) > 10 * view.relative
    also = f" (and the rest is {ratio:.4g} times the true gradient)" if scaled else ""
    says = (
        f"is not zero in {count} places where the true gradient is exactly zero{also}: "
        "a mask or gate of the forward is probably not applied."
    )
    likelihood = 0.93 if whole else 0.88 if masked else 0.74
    if _leaks(view, gained, both):
        says = f"passes {count} places where the true gradient is zero, at another slope: it leaks."
        yield Guess("local_derivative", 0.94, says)
    yield Guess("mask_forgotten", likelihood - (0.05 if scaled else 0), says, ratio)


def _named_by_option(view):
    """Where the elements that act on nothing are those of a mask among the options.

    Nothing else is let in, and samples of which nothing is masked are right.
    """
    if view.known.size < view.size:
        return None
    dead = view.n_zero.all(0).reshape(view.shape)
    if (view.n_zero & ~view.a_zero)[:, ~dead.ravel()].any():
        return None
    wrong = view.wrong.any(0).reshape(view.shape)
    given = (~view.a_zero).any(0).reshape(view.shape)
    for name, value in view.evidence.kwargs.items():
        if getattr(value, "dtype", None) is None or value.dtype.kind != "b" or not value.ndim:
            continue
        for mask in (np.asarray(value), ~np.asarray(value)):
            if mask.all() or not mask.any() or mask.shape != view.shape[: mask.ndim]:
                continue
            free = ~mask.reshape(len(mask), -1).any(1)
            if wrong[free].any():
                continue
            if dead[mask].all() and not dead[~mask].any() and given[mask].all():
                return f"where {name} shuts {view.name} off: that mask is not applied"
    return None


def _from_later(view):
    """Where each output depends on earlier steps alone, and the gradient lets later ones in.

    The last step, which sees all, is right, and so is what another sample has no part in.
    """
    if not view.whole or len(view.blocks) != 1 or view.known.size < view.size:
        return None
    shape = view.blocks[0].shape
    for one, two in itertools.product(range(len(shape)), range(len(view.shape))):
        if shape[one] != view.shape[two] or shape[one] < 3:
            continue
        step = np.indices(view.shape)[two].reshape(1, -1) - np.indices(shape)[one].reshape(-1, 1)
        before, after = ~view.n_zero & (step < 0), ~view.n_zero & (step > 0)
        let_in, last = view.n_zero & ~view.a_zero, np.indices(shape)[one].ravel() == shape[one] - 1
        if (let_in & (step <= 0)).any() or view.wrong[last].any():
            continue
        if before.any() and not after.any() and let_in.any():
            return (
                f"for later steps along axis {two} of {view.name} than the output's own: a causal "
                "mask is probably not applied"
            )
    return None


def _leaks(view, gained, both):
    """Whether an elementwise function has one slope where it is open, another elsewhere."""
    if (~view.a_zero).sum(1).max() > 1 or gained.sum() < 2:
        return False
    shut, opened = view.ka[gained], view.ka[both]
    tol = view.tol.max()
    return bool(np.ptp(shut) <= tol and np.ptp(opened) <= tol and abs(shut[0] - opened[0]) > tol)


def _has_mask(evidence):
    """Whether an argument speaks of a mask."""
    words = ("mask", "causal", "keep", "drop", "ignore", "pad")
    for name, value in evidence.kwargs.items():
        if any(word in name for word in words) and value is not None and value is not False:
            return True
        if getattr(value, "dtype", None) is not None and value.dtype.kind == "b":
            return True
    return False


def _steady(view, both):
    """The one ratio of analytic to numeric where both are not zero (None: no such place)."""
    if not both.any():
        return None, True
    a, n = view.ka[both], view.kn[both]
    ratio = float(np.vdot(n, a) / np.vdot(n, n))
    tol = np.broadcast_to(view.tol[view.known], both.shape)[both]
    off = np.abs(a - ratio * n) > tol * max(1.0, abs(ratio))
    return ratio, not off.any() and (abs(ratio - 1) < 10 * view.relative or a.size > 2)

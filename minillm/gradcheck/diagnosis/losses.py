"""A loss is one number: its gradient lacks a term that the targets or an argument give."""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess

__all__ = ["chosen_alone", "loss_term", "target_term"]

FEW = 3  # distinct values that a constant missing at some places leaves, zero among them


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


def target_term(view):
    """What is missing is a share of the targets' one-hot rows, or of ones, carried to the leaf."""
    if view.a.shape[0] != 1 or view.known.size < view.size or view.wrong.sum() < 4:
        return
    gap = (view.a - view.n)[0]
    for name, targets in _targets(view.evidence):
        for basis in _carried(view, targets):
            found, _, rank, _ = np.linalg.lstsq(basis, gap, rcond=None)
            if rank < basis.shape[1] or np.abs(basis @ found - gap).max() > view.tol.max() * 10:
                continue
            if abs(found[0]) * np.abs(basis[:, 0]).max() <= view.tol.max():
                continue
            says = (
                f"differs from the true gradient by {found[0]:+.4g} times one-hot {name}"
                + (
                    " (and a constant)"
                    if abs(found[1]) > 10 * view.relative * abs(found[0])
                    else ""
                )
                + ": the target's term is missing or has another weight."
            )
            yield Guess("missing_term", 0.92, says)
            return


def chosen_alone(view):
    """Something arrives only at the targets, or where the labels are set."""
    if view.a.shape[0] != 1 or view.known.size < view.size or not view.wrong.any():
        return
    live = ~view.a_zero[0]
    named = [(k, v) for k, v in view.evidence.kwargs.items() if hasattr(v, "dtype")]
    for name, value in named:
        value = np.ravel(np.asarray(value))
        places = [value != 0] if value.size == view.size else []
        if value.dtype.kind in "iu" and value.size and view.size % value.size == 0:
            hot = np.zeros((value.size, view.size // value.size), dtype=bool)
            fits = (value >= 0) & (value < hot.shape[1])
            hot[np.flatnonzero(fits), value[fits]] = True
            places.append(hot.ravel())
        for there in places:
            if np.array_equal(there, live) and (~view.n_zero[0] & ~live).any():
                says = f"arrives only where {name} points, the true gradient elsewhere as well."
                yield Guess("missing_term", 0.9, says)
                return


def _carried(view, targets):
    """Two columns for the leaf: what one-hot targets and ones in the logits give to it."""
    count = targets >= 0
    n, shape = targets.size, view.shape
    for classes in {size for leaf in view.evidence.leaves for size in np.shape(leaf.value)}:
        if targets.max(initial=0) >= classes or not count.any():
            continue
        hot = np.zeros((n, classes))
        hot[np.flatnonzero(count), targets[count]] = 1
        ones = np.repeat(count[:, None].astype(float), classes, 1)
        if shape[-1:] == (classes,) and view.size == n * classes:
            yield np.array([hot.ravel(), ones.ravel()]).T
        if shape == (classes,):
            yield np.array([hot.sum(0), ones.sum(0)]).T
        for leaf in view.evidence.leaves:
            other = np.asarray(leaf.value, dtype=float)
            if len(shape) == 2 and other.ndim > 1 and other.size // other.shape[-1] == n:
                x = other.reshape(n, -1)
                for turn in (lambda z, x=x: z.T @ x, lambda z, x=x: x.T @ z):
                    if turn(hot).shape == shape:
                        yield np.array([turn(hot).ravel(), turn(ones).ravel()]).T
            if other.ndim == 2 and classes in other.shape:
                w = other if other.shape[0] == classes else other.T
                if view.size == n * w.shape[1] and len(w) == classes:
                    yield np.array([(hot @ w).ravel(), (ones @ w).ravel()]).T


def _targets(evidence):
    """Arrays of whole numbers among the arguments that may be targets, flat, by name."""
    named = list(evidence.kwargs.items())
    named += [(f"argument {i}", value) for i, value in enumerate(evidence.args)]
    for name, value in named:
        if (
            getattr(value, "dtype", None) is not None
            and value.dtype.kind in "iu"
            and value.size > 1
        ):
            yield name, np.asarray(value).ravel()


def _distinct(values, tol):
    """How many values differ by more than tol."""
    return 1 + int((np.diff(np.sort(values)) > 2 * tol).sum())

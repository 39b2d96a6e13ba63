"""A leaf that is used twice: what one use gives is lost, and another leaf's gradient shows it.

A leaf that stands beside another one, x - y or table[ids] + x, gets the other's gradient as one of
its shares. Where just this share is lacking, or alone is there, a use is lost.
"""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess

__all__ = ["another_share"]


def another_share(view):
    """The gap, or all that arrives, is another leaf's true gradient, as it is or by rows."""
    if not view.whole or view.inside or view.known.size < view.size or not view.wrong.any():
        return
    if (view.n_zero & ~view.a_zero).any():
        return  # something came where nothing should: nothing is lost
    gap = view.n - view.a
    for name, true in _shares(view):
        tol = view.relative * max(np.abs(true).max(), np.abs(view.n).max())
        if np.abs(true).max() <= tol or (np.abs(true) > tol).sum() < 3:
            continue
        for sign, words in ((1, ""), (-1, "minus ")):
            if np.abs(gap - sign * true).max() <= tol and (np.abs(view.a) > tol).any():
                says = (
                    f"lacks {words}the gradient of {name}: the use of {view.name} beside it is "
                    "lost (+= needed)."
                )
                yield Guess("overwritten", 0.94, says)
                return
            if np.abs(view.a - sign * true).max() <= tol and "rows" in name:
                says = (
                    f"is {words}the gradient of {name} alone: the other use of {view.name} is "
                    "lost (+= needed)."
                )
                yield Guess("overwritten", 0.94, says)
                return


def _shares(view):
    """(name, true Jacobian laid out as the leaf's) of leaves of its shape, or of rows of it."""
    for index, leaf in enumerate(view.evidence.leaves):
        size = np.size(leaf.value)
        if index == view.index or np.asarray(view.evidence.known(index)).size < size:
            continue
        true = view.evidence.columns(index)[view.rows]
        if not np.isfinite(true).all():
            continue
        if np.shape(leaf.value) == view.shape:
            yield leaf.name, true
        for key, ids in view.evidence.kwargs.items():
            if getattr(ids, "dtype", None) is None or ids.dtype.kind not in "iu":
                continue
            ids = np.asarray(ids)
            fits = ids.size and ids.min() >= 0 and ids.max() < view.shape[0]
            if fits and np.shape(leaf.value) == (*ids.shape, *view.shape[1:]):
                rows = np.zeros((view.shape[0], len(true), view.size // view.shape[0]))
                np.add.at(rows, ids.ravel(), true.reshape(len(true), ids.size, -1).swapaxes(0, 1))
                wide = rows.swapaxes(0, 1).reshape(len(true), -1)
                yield f"{leaf.name} at the rows of {key}", wide

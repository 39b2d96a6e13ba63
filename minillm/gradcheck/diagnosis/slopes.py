"""Each element acts on one output alone, and its slope is off: by which values of the problem?"""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess

__all__ = ["follows", "known_slope", "one_number", "smooth", "weight"]

ENOUGH = 4  # wrong elements from which a formula that fits them all is no accident


def smooth(view):
    """A scalar's gradient is off by a factor that follows the leaf's values, or the gradient's."""
    if view.a.shape[0] != 1 or view.known.size < 12 or not view.wrong.any():
        return
    a, n = view.ka[0], view.kn[0]
    live = ~view.n_zero[0] & ~view.a_zero[0]
    if live.sum() < 12 or (view.n_zero[0] & ~view.a_zero[0]).any():
        return
    ratio = a[live] / n[live]
    if np.ptp(ratio) <= 10 * view.relative * np.abs(ratio).max():
        return
    for name, by in ((view.name, view.value.ravel()[view.known]), ("the gradient", n)):
        if follows(ratio, by[live]):
            says = (
                f"is off by a factor that follows the values of {name} (from {ratio.min():.3g} to "
                f"{ratio.max():.3g}): a local derivative is probably wrong."
            )
            yield Guess("local_derivative", 0.75, says)
            return


def one_number(view):
    """A single number's derivative is off by a factor that follows another leaf's values."""
    if view.size != 1 or not view.whole or len(view.blocks) != 1 or view.rows.size < 12:
        return
    live = ~view.n_zero[:, 0] if view.known.size else np.zeros(0, dtype=bool)
    if live.sum() < 12 or (~live & ~view.a_zero[:, 0]).any():
        return
    ratio = view.ka[live, 0] / view.kn[live, 0]
    if np.ptp(ratio) <= 10 * view.relative * np.abs(ratio).max():
        return
    for leaf in view.evidence.leaves:
        if np.size(leaf.value) != view.evidence.out_size:
            continue
        values = np.ravel(leaf.value)[view.rows][live]
        if words := _formula(ratio, leaf.name, values, view.relative):
            says = f"is, in each output, the true derivative times {words}: a factor is off."
            yield Guess("local_derivative", 0.87, says)
            return
        if follows(ratio, values):
            says = (
                f"is off, in each output, by a factor that follows the values of {leaf.name} "
                f"(from {ratio.min():.3g} to {ratio.max():.3g}): a local derivative is probably "
                "wrong."
            )
            yield Guess("local_derivative", 0.75, says)
            return


def known_slope(view):
    """Where it is wrong, off by a formula of the leaf's values or of its distance from another's.

    The formula may hold where a piecewise function has one of its branches.
    """
    single = _single(view)
    if single is None:
        return
    a, n, wrong = single
    if wrong.sum() < ENOUGH or (np.abs(n[wrong]) == 0).any():
        return
    ratio = a[wrong] / n[wrong]
    if np.ptp(ratio) <= 10 * view.relative * np.abs(ratio).max():
        if not wrong.all() and abs(abs(ratio[0]) - 1) > 10 * view.relative and ratio[0]:
            says = (
                f"is {ratio[0]:.4g} times the true gradient at {int(wrong.sum())} scattered "
                "elements and right at the others: the slope of one branch is off."
            )
            yield Guess("local_derivative", 0.7, says, float(ratio[0]))
        return
    for name, values in _values(view):
        if words := _formula(ratio, name, values[wrong], view.relative):
            where = "" if wrong.all() else f" at the {int(wrong.sum())} elements where it is off"
            says = f"is the true gradient times {words}{where}: a local derivative is wrong."
            yield Guess("local_derivative", 0.87, says)
            return


def weight(view):
    """An array among the options multiplies the true gradient, and not this one."""
    if not view.wrong.any() or view.known.size < view.size:
        return
    for name, value in view.evidence.kwargs.items():
        if getattr(value, "dtype", None) is None or value.dtype.kind not in "fiub":
            continue
        w = np.asarray(value, dtype=float)
        if w.shape != view.shape or np.ptp(w) <= 1e-3 * np.abs(w).max() or w.size < ENOUGH:
            continue
        weighted = view.a * w.ravel()
        square = float(np.vdot(weighted, weighted))
        ratio = float(np.vdot(weighted, view.n)) / square if square else 0.0
        if ratio and (np.abs(view.n - ratio * weighted) <= view.tol).all():
            says = f"lacks the factor {name} of each element, which the forward applies."
            yield Guess("mask_forgotten", 0.93, says)
            return


def follows(values, by):
    """Whether values are ordered by others, up to a few turns: a third of n**2 by chance."""
    ranks = np.argsort(np.argsort(values))
    turns = np.abs(np.diff(ranks[np.argsort(by, kind="stable")])).sum()
    return bool(turns <= 0.4 * len(values) ** 2 / 3)


def _single(view):
    """(a, n, wrong) by element, where each acts on one output at most; else None."""
    if not view.wrong.any() or view.known.size < view.size:
        return None
    if (
        not view.whole
        or view.inside
        or not view.linear
        or (~(view.n_zero & view.a_zero)).sum(0).max() > 1
    ):
        return None
    wrong = view.wrong.any(0)
    return view.a.sum(0), np.where(view.n_zero, 0.0, view.n).sum(0), wrong


def _values(view):
    """The leaf's values, and its distance from those of each other leaf of its shape."""
    x = view.value.ravel()
    yield view.name, x
    for index, leaf in enumerate(view.evidence.leaves):
        if index != view.index and np.shape(leaf.value) == view.shape:
            yield f"({view.name} - {leaf.name})", x - np.ravel(leaf.value)


def _formula(ratio, name, values, relative):
    """The words of the first formula of the values that the ratios are, up to a constant."""
    for words, made in _formulas(name, values):
        scaled = ratio / made
        varied = np.ptp(made) > 0.05 * np.abs(made).max()
        if varied and np.ptp(scaled) <= 20 * relative * np.abs(scaled).max():
            return words
    return None


def _formulas(name, v):
    """Slopes, and values for slopes, that people leave out or put in."""
    with np.errstate(all="ignore"):
        s = 1 / (1 + np.exp(-v))
        made = {
            name: v,
            f"the size of {name}": np.abs(v),
            f"s(1 - s), s the sigmoid of {name}": s * (1 - s),
            f"the sigmoid of {name}": s,
            f"1 - tanh({name}) squared": 1 - np.tanh(v) ** 2,
            f"exp({name})": np.exp(v),
        }
        made |= {f"1 / {words}": 1 / values for words, values in made.items()}
    return [(w, m) for w, m in made.items() if np.isfinite(m).all() and m.all()]

"""Mistakes that treat the whole gradient alike: zero, sign, factor, dout unused, exchanged."""

import numpy as np

from minillm.gradcheck.diagnosis._ratios import name_of_ratio, named_ratio
from minillm.gradcheck.diagnosis._view import Guess, scale_of

__all__ = ["exchanged", "factor", "signs", "upstream", "zero"]


def zero(view):
    """Nothing arrives, though the leaf has influence."""
    given = [view.evidence.analytic(view.index, c) for c in view.evidence.cotangents]
    nothing = max(np.abs(g).max(initial=0.0) for g in given) <= view.tol.max()
    if nothing and view.a_zero.all() and not view.n_zero.all():
        top = float(np.nanmax(np.abs(view.kn)))
        says = (
            f"is zero, but the true gradient isn't (up to {top:.3g} for one output): "
            "nothing arrives at this argument."
        )
        yield Guess("zero", 0.97, says, 0.0)


def factor(view):
    """The same number times the true gradient everywhere; minus one is a turned sign."""
    ratio, exact = _ratio(view.ka, view.kn, view.tol[view.known])
    if not exact or view.a_zero.all() or abs(ratio - 1) <= 1e-4:
        return  # what is wrong may be one element, which is not among the known ones
    shown = name_of_ratio(ratio)
    if abs(ratio + 1) <= 10 * view.relative:
        says = "is the negative of the true gradient (ratio -1.000): a sign is probably turned."
        yield Guess("sign", 0.97, says, ratio)
        return
    named = named_ratio(ratio, view)
    if named is None and view.entries < 3:
        return  # a single number is always some multiple of another
    turned = " and its sign is turned" if ratio < 0 else ""
    if named is None:
        says = f"is {shown} times the true gradient everywhere: a constant factor is off."
        yield Guess("factor", 0.75, says, ratio)
        return
    likelihood = 0.95 if view.entries >= 3 else 0.7
    says = f"is {shown} times the true gradient{turned}: {named[0]}."
    yield Guess("factor", likelihood, says, ratio)
    summed = _summed_positions(view)
    if ratio > 0 and summed > 1 and abs(ratio * summed - 1) <= 10 * view.relative:
        says = f"is {shown} times the true gradient: a mean over {summed} where a sum is needed."
        yield Guess("missing_sum", 0.6, says, ratio)


def signs(view):
    """Every entry has the right size, but some have the wrong sign."""
    if not view.whole or not view.wrong.any():
        return
    turned = view.wrong & (np.abs(view.ka + view.kn) <= view.tol[view.known])
    if not np.array_equal(turned, view.wrong) or not (~view.wrong & ~view.n_zero).any():
        return
    count, alone = int(turned.sum()), (~view.n_zero).sum(1).max() <= 1
    slices = view.full(turned).any(0).reshape(view.shape)
    confined = any(
        not slices.any(tuple(i for i in range(slices.ndim) if i != axis)).all()
        for axis in range(slices.ndim)
    )
    says = (
        f"has the right size everywhere, but in {count} of {view.entries} entries of the Jacobian "
        "the sign is turned (ratio -1.000): one term probably has the wrong sign."
    )
    yield Guess("sign", 0.55 if alone or confined or count < 2 else 0.94, says, -1.0)


def upstream(view):
    """The upstream gradient is not used, or only its sum."""
    evidence, index = view.evidence, view.index
    given = np.array([np.ravel(evidence.analytic(index, c)) for c in evidence.cotangents])
    true = np.array([np.ravel(evidence.numeric(index, c)) for c in evidence.cotangents])
    tol = view.relative * scale_of(given, true)
    if np.max(np.abs(given), initial=0.0) > 0 and np.all(np.ptp(given, axis=0) <= 1e-3 * tol):
        says = "is the same for every upstream gradient: dout is probably not used."
        ones = np.ravel(evidence.numeric(index, np.ones(evidence.out_size)))
        known = np.isfinite(ones)
        if np.all(np.abs(given[0] - ones)[known] <= tol[known]):
            says = "is right for an upstream gradient of ones, whatever dout is: dout isn't used."
        yield Guess("upstream_ignored", 0.99, says)
        return
    nothing = np.ravel(evidence.analytic(index, np.zeros(evidence.out_size)))
    if np.isfinite(nothing).all() and (np.abs(nothing) > tol).any():
        says = "isn't zero for an upstream gradient of zero: dout is missing in one of its terms."
        yield Guess("upstream_ignored", 0.97, says)
        return
    off = given - true
    known = np.isfinite(off).all(0)
    off, tol = off[:, known], tol[known]
    if off.size and (np.abs(off) > tol).any() and np.all(np.ptp(off, axis=0) <= tol):
        says = "holds a term that doesn't depend on the upstream gradient: dout is missing in it."
        yield Guess("upstream_ignored", 0.96, says)
    if view.whole and view.a.shape[0] > 1 and not view.a_zero.all():
        level = np.ptp(view.ka, axis=0) <= view.tol[view.known]
        varied = np.ptp(view.kn, axis=0) > view.tol[view.known]
        if level.all() and varied.any():
            says = "depends on the sum of the upstream gradient alone, not on where it comes from."
            yield Guess("upstream_ignored", 0.9 if _one(view.ka, view.tol) else 0.7, says)


def exchanged(view):
    """The analytic gradient of this leaf is the true one of another."""
    evidence = view.evidence
    for other, leaf in enumerate(evidence.leaves):
        if other == view.index or np.size(leaf.value) != view.size or view.size == 0:
            continue
        known = np.asarray(evidence.known(other))
        if view.whole:
            true = evidence.columns(other)[view.rows]
        else:
            true = np.array([np.ravel(evidence.numeric(other, c)) for c in evidence.cotangents])
            true = true[:, known]
        mine = view.a[:, known]
        tol = view.relative * scale_of(mine, true)
        if np.any(np.abs(mine - true) > tol) or not (np.abs(true) > tol).any():
            continue
        says = (
            f"is not its own: it equals the true gradient of {leaf.name}; "
            "the order of the returned gradients is probably wrong."
        )
        # A gradient that is its own in most places is rather wrong in part.
        right = ~view.wrong.any(0) & ~view.n_zero.all(0)
        sure = (np.abs(true) > tol).sum() > 1
        yield Guess("other_parameter", 0.8 if right.mean() > 0.4 else 0.96 if sure else 0.5, says)
        return


def _one(a, tol):
    """Whether one number stands in all of a."""
    return bool(np.ptp(a) <= tol.max())


def _ratio(a, n, tol):
    """The least-squares ratio a / n, and whether it explains a to within tol."""
    square = float(np.vdot(n, n))
    if square == 0:
        return 0.0, False
    ratio = float(np.vdot(n, a)) / square
    return ratio, bool(np.all(np.abs(a - ratio * n) <= tol * max(1.0, abs(ratio))))


def _summed_positions(view):
    """How many output elements each element of the leaf reaches, if all reach the same number."""
    counts = (~view.n_zero).sum(0)
    counts = counts[counts > 0]
    return int(counts[0]) if view.whole and counts.size and np.ptp(counts) == 0 else 0

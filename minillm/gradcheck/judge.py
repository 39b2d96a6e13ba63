"""One leaf's verdict: does its gradient agree with the differences, and could they have told?

A quick look at two directions settles nearly every case. What it does not settle gets a ladder of
steps, which measures truncation and rounding, tells a kink from a mistake, and says where
differences have no power. A gradient fails only after that.
"""

from dataclasses import dataclass, replace

import numpy as np

from minillm.gradcheck.contract import Contract, gradients_of
from minillm.gradcheck.kinks import (
    bent,
    explained,
    has_kink,
    is_staircase,
    jumps,
    torn,
)
from minillm.gradcheck.rounding import beside_upstream, changes_with_a_hair, only_rounding
from minillm.gradcheck.steps import Line, bands, compare, default_rtol, length

__all__ = ["Judgement", "View", "judge", "look"]

AGREES, NULL, UNSURE, KINK, DIFFERS = "agrees", "null", "unsure", "kink", "differs"
QUICK = 1e-5  # rounding this small beside the gradient leaves a quick look all its power
POWER = {"float64": 1e-2, "float32": 3e-2}  # an uncertainty above this share has none
BEND = 0.1  # a slope that changes by this share of the typical one within a step has a kink there
LEFT_OUT = 0.1  # share of the outputs that may be left out for their kinks
LASTING = 0.01  # share of the outputs with a kink at the point itself that may be
LARGER = 16.0  # how many times larger a first step may be made for the sake of rounding
SAFETY = 10.0  # between an estimated error and a tolerance


@dataclass
class View:
    """A line seen through one cotangent at its best step."""

    state: str
    residual: float  # cotangent . slope - <analytic, direction>
    scale: float  # the norm of the gradient, analytic or numeric, whichever is larger
    error: float  # what the differences themselves may be off by
    h: float

    @property
    def relative(self):
        return abs(self.residual) / self.scale if self.scale else 0.0


@dataclass
class Judgement:
    """What was found for one leaf: the view that decides, and the line it is of."""

    state: str
    reason: str | None
    view: View
    cotangent: int  # which cotangent the worst view is through
    h: float  # the step at which differences are best
    tolerance: float
    line: Line


def judge(problem, index, cotangents, gradients, rng, rtol=None, n_lines=2):
    """Compare one leaf's gradients, one for each cotangent, along random directions."""
    leaf = problem.leaves[index]
    rtol = default_rtol(problem.precision(index)) if rtol is None else rtol
    h = None
    judgements: list[Judgement] = []
    for _ in range(n_lines):
        line = Line.random(problem, index, rng)
        views = look(line, cotangents, gradients, rtol, h)
        found = max(range(len(views)), key=lambda i: _rank(views[i]))
        h = views[found].h
        judgements.append(_judgement(line, views, found, rtol, cotangents, gradients))
        if judgements[-1].state in (KINK, DIFFERS):
            break
    decides = max(judgements, key=lambda judgement: _rank(judgement.view))
    if decides.state in (UNSURE, DIFFERS):
        apart = [
            _of_band(problem, index, band, cotangents, gradients, rng, rtol)
            for band in bands(leaf.value, leaf.eps)
        ]
        decides = max(apart, key=lambda judgement: _rank(judgement.view), default=decides)
    if decides.state == DIFFERS:
        view, cotangent = decides.view, cotangents[decides.cotangent]
        if torn(decides.line, view, cotangent, SAFETY * view.error, rng):
            decides = replace(decides, state=KINK, reason="kink")
    return decides


def _of_band(problem, index, band, cotangents, gradients, rng, rtol):
    """The judgement of some elements of a leaf, on their own gradient's norm."""
    line = Line.random(problem, index, rng, band)
    own = [np.where(band, gradient, 0.0) for gradient in gradients]
    views = look(line, cotangents, own, rtol)
    found = max(range(len(views)), key=lambda i: _rank(views[i]))
    return _judgement(line, views, found, rtol, cotangents, own)


def look(line, cotangents, gradients, rtol, h=None):
    """One view a cotangent; a ladder of steps where the first step does not settle all."""
    h = _first(line, cotangents, gradients, rtol) if h is None else h
    views = (
        _quick(line, cotangents, gradients, rtol, h)
        or _silent(line, cotangents, gradients, h)
        or _descend(line, cotangents, gradients, rtol, h)
        or _around_kinks(line, cotangents, gradients, rtol, h)
    )
    if views is not None:
        return views
    _climb(line, cotangents, gradients, h)
    views = _deepened(line, cotangents, gradients, rtol)
    unsure = [view.h for view in views if view.state == UNSURE]
    if not unsure:
        return views
    for best in unsure[:1]:  # the best step may lie between two rungs
        for between in (best / line.ratio**0.5, best * line.ratio**0.5):
            line.pair(between)
    return _weigh_all(line, cotangents, gradients, rtol)


def _first(line, cotangents, gradients, rtol):
    """The first step: a larger one where rounding would leave too little of these gradients."""
    wanted = 1.0
    for cotangent, gradient in zip(cotangents, gradients, strict=True):
        if scale := length(gradient):
            wanted = max(wanted, 20 * line.noise(cotangent, line.first) / (rtol * scale))
    return line.first * min(wanted, LARGER)


def _quick(line, cotangents, gradients, rtol, h):
    """Views at one step if each agrees beyond doubt (or is exactly nothing), else None."""
    pair = line.pair(h)
    if not pair.usable:
        return None
    views = []
    for cotangent, gradient in zip(cotangents, gradients, strict=True):
        residual, scale = compare(pair, cotangent, gradient)
        noise = 8 * line.noise(cotangent, h)
        noise = noise if noise <= QUICK * scale else 0.0
        if scale == 0:
            state = NULL
        elif abs(residual) <= rtol * scale + noise:
            state = AGREES
        else:
            return None
        views.append(View(state, residual, scale, 0.0, h))
    return views if any(view.state == AGREES for view in views) else None


def _silent(line, cotangents, gradients, h):
    """Views of nothing: no output changes at a large step either, and backward says zero.

    Where it says something that is rounding, the outputs may round as well.
    """
    claimed = any(np.any(gradient) for gradient in gradients)
    slack = 8 * line.eps * length(line.problem.flat) if claimed else 0.0

    def still(h):
        pair = line.pair(h)
        return pair.unchanged or 2 * h * length(pair.slope) <= slack

    if not still(h):
        return None
    if claimed and not only_rounding(line.problem, line.index, cotangents, gradients):
        return None
    if not still(h * line.ratio**2):
        return None
    return [View(NULL, 0.0, 0.0, 0.0, h) for _ in cotangents]


def _descend(line, cotangents, gradients, rtol, h):
    """Views at a finer step where two of them in a row agree, else None."""
    coarse = _quick(line, cotangents, gradients, rtol, h / line.ratio)
    fine = _quick(line, cotangents, gradients, rtol, h / line.ratio**2)
    return fine if coarse is not None else None


def _around_kinks(line, cotangents, gradients, rtol, h):
    """Views through cotangents that leave out the few outputs with a kink within the step.

    Backward is linear: asked about the other outputs alone, it answers for them alone. Where more
    than a few outputs have a kink at the point itself, which no finer step gets past, the point is
    to be moved instead.
    """
    fine, pair = line.pair(h / line.ratio**2), line.pair(h)
    if not (pair.usable and fine.usable):
        return None
    bent = pair.bends() > BEND * max(length(pair.slope) / np.sqrt(pair.slope.size), 1e-300)
    lasting = bent & (fine.bends() > 0.5 * pair.bends())
    if not bent.any() or lasting.mean() > LASTING or bent.mean() > LEFT_OUT:
        return None
    if length(pair.slope * bent) > length(pair.slope) / 2:
        return None  # these outputs are what the line is about
    kept = [np.where(bent, 0.0, cotangent) for cotangent in cotangents]
    asked = [
        gradients_of(line.problem, Contract(), line.problem.vjp(cotangent))[line.index]
        for cotangent in kept
    ]
    if any(gradient is None for gradient in asked):
        return None
    own = [np.where(line.direction != 0, gradient, 0.0) for gradient in asked]
    return _quick(line, kept, own, rtol, h)


def _climb(line, cotangents, gradients, h):
    """Evaluate the rest of the ladder: down to where only rounding is left, up while it helps."""
    q = line.ratio
    for rung in (h * q, h * q**2, h * q**3):
        line.pair(rung)
    for _ in range(5):
        steps = sorted(h for h, pair in line.pairs.items() if pair.usable)
        best = {_best(line, d, g)[0] for d, g in zip(cotangents, gradients, strict=True)}
        largest = line.pairs[max(line.pairs)]
        if not steps or min(best) <= steps[0] or line.still_falling(cotangents[0]):
            line.pair(min(line.pairs) / q)
        elif max(best) >= steps[-1] and largest.finite and not bent(line, largest, cotangents[0]):
            line.pair(max(line.pairs) * q)
        else:
            return


def _deepened(line, cotangents, gradients, rtol):
    """The views, once no finer step could still settle a disagreement.

    A function may level off at any scale. Only where rounding would hide the disagreement, or the
    dtype can't take the step, is there nothing more to see.
    """
    while True:
        views = _weigh_all(line, cotangents, gradients, rtol)
        h = min(line.pairs) / line.ratio
        clear = [
            view.state == DIFFERS
            and SAFETY * line.measured_noise(cotangent) / h < abs(view.residual)
            for view, cotangent in zip(views, cotangents, strict=True)
        ]
        if not any(clear) or not line.pair(h).usable:
            return views


def _best(line, cotangent, gradient):
    """(step, residual, scale, error) where the differences' own error is smallest.

    The error at a step is what rounding makes of it, plus a share of how much the quotient changed
    since the coarser step, plus by how much any finer step contradicts it beyond that step's own
    rounding (Lepski 1990). The share, one over the steps' ratio, is larger than that squared, which
    smooth functions have, since an extrapolated error is known to promise too much. Steps along
    which the function bends away are left out: far out one that has levelled off looks settled.
    """
    finite = sorted((h for h, pair in line.pairs.items() if pair.usable), reverse=True)
    if not finite:
        return min(line.pairs), np.nan, 0.0, np.inf
    straight = [h for h in finite if not bent(line, line.pairs[h], cotangent)]
    steps = straight or finite
    rounding = line.measured_noise(cotangent)
    seen = [compare(line.pairs[h], cotangent, gradient) for h in steps]
    best = None
    for i, (h, (residual, scale)) in enumerate(zip(steps, seen, strict=True)):
        finer = [
            abs(residual - other) - 3 * rounding / step
            for step, (other, _) in zip(steps[i + 1 :], seen[i + 1 :], strict=True)
        ]
        # the coarsest has only the next one to be compared with
        coarser = min(1, len(seen) - 1) if i == 0 else i - 1
        share = steps[i - 1] / h if i else 1.0
        contradicted = max(0.0, max(finer, default=0.0))
        error = rounding / h + contradicted + abs(residual - seen[coarser][0]) / share
        if not straight:
            error += line.pairs[h].kink(cotangent) / 2
        if best is None or error < best[3]:
            best = (h, residual, scale, error)
    return best


def _weigh_all(line, cotangents, gradients, rtol):
    pairs = zip(cotangents, gradients, strict=True)
    return [_weigh(line, cotangent, gradient, rtol) for cotangent, gradient in pairs]


def _weigh(line, cotangent, gradient, rtol):
    """The view at the best step of the ladder."""
    h, residual, scale, error = _best(line, cotangent, gradient)
    power = POWER[line.problem.precision(line.index)]
    if not np.isfinite(residual):
        return View(UNSURE, np.inf, scale, np.inf, h)
    doubt = SAFETY * error
    if jumps(line, cotangent) or has_kink(line, cotangent, gradient, rtol, power):
        state = KINK
    elif scale <= doubt:
        state = NULL
    elif abs(residual) > rtol * scale + doubt:
        nothing = abs(float(cotangent @ line.pairs[h].slope)) <= doubt
        rounding = nothing and only_rounding(line.problem, line.index, [cotangent], [gradient])
        if rounding:
            state = NULL
        else:
            rounded = explained(line, h, cotangent, gradient, residual)
            rough = is_staircase(line, h, cotangent, residual)
            state = UNSURE if abs(residual) <= rounded or rough else DIFFERS
    else:
        state = UNSURE if doubt > power * scale else AGREES
    if state == UNSURE and beside_upstream(line.problem, line.index, cotangent, scale):
        state = NULL  # both gradients are what cancelling left
    return View(state, residual, scale, error, h)


def _rank(view):
    """What decides among views: a disagreement, else a doubt, else the largest error."""
    return (NULL, AGREES, UNSURE, KINK, DIFFERS).index(view.state), view.relative


def _judgement(line, views, found, rtol, cotangents, gradients):
    view = views[found]
    tolerance = rtol + (SAFETY * view.error / view.scale if view.scale else 0.0)
    unclear = view.state in (NULL, UNSURE, KINK)
    reason = _reason(line, view, cotangents, gradients) if unclear else None
    return Judgement(view.state, reason, view, found, view.h, tolerance, line)


def _reason(line, view, cotangents, gradients):
    """Why the differences can't tell."""
    if view.state == KINK:
        return "kink"
    if not any(pair.finite for pair in line.pairs.values()):
        return "not finite"
    silent = all(pair.unchanged for pair in line.pairs.values() if pair.h <= line.first)
    claimed = max(length(gradient) for gradient in gradients)
    if view.state == NULL:
        if silent and claimed == 0:
            return "no influence"
        rounding = changes_with_a_hair if silent else only_rounding  # a tail may be as small
        if claimed and rounding(line.problem, line.index, cotangents, gradients):
            return "vanishes"
        # what the outputs would change by if the leaf moved by its own size, beside their rounding
        swing = claimed * line.scale / (line.eps * length(line.problem.flat) or 1.0)
        if swing > 30:
            return "noise"
        return "saturated" if silent else "vanishes"
    smallest = min(line.pairs)
    return "curvature" if view.h <= smallest * line.ratio else "noise"

"""One leaf's verdict: does its gradient agree with the differences, and could they have told?

A quick look at two directions settles nearly every case. What it does not settle gets a ladder of
steps, which measures truncation and rounding, tells a kink from a mistake, and says where
differences have no power. A gradient fails only after that.
"""

from dataclasses import dataclass, replace

import numpy as np

from minillm.gradcheck.kinks import torn
from minillm.gradcheck.ladder import SAFETY
from minillm.gradcheck.look import look
from minillm.gradcheck.rounding import changes_with_a_hair, only_rounding
from minillm.gradcheck.steps import Line, bands, default_rtol, length
from minillm.gradcheck.view import AGREES, DIFFERS, KINK, NULL, UNSURE, View

__all__ = ["Judgement", "judge"]


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
        judgements.append(_along(line, cotangents, gradients, rtol, h))
        h = judgements[-1].h
        if judgements[-1].state in (KINK, DIFFERS):
            break
    decides = max(judgements, key=lambda judgement: _rank(judgement.view))
    if decides.state in (UNSURE, DIFFERS):
        apart = [
            _of_band(problem, index, band, cotangents, gradients, rng, rtol)
            for band in bands(leaf.value, leaf.eps)
            for _ in range(n_lines)
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
    return _along(line, cotangents, own, rtol)


def _rank(view):
    """What decides among views: a disagreement, else a doubt, else the largest error."""
    return (NULL, AGREES, UNSURE, KINK, DIFFERS).index(view.state), view.relative


def _along(line, cotangents, gradients, rtol, h=None):
    """The judgement along one line, by the view that decides."""
    views = look(line, cotangents, gradients, rtol, h)
    found = max(range(len(views)), key=lambda i: _rank(views[i]))
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

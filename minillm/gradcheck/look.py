"""A quick look along a line: one or two steps, which settle nearly every case."""

import numpy as np

from minillm.gradcheck.gradients import gradients_for
from minillm.gradcheck.ladder import climb
from minillm.gradcheck.rounding import only_rounding
from minillm.gradcheck.steps import compare, length
from minillm.gradcheck.view import AGREES, NULL, View

__all__ = ["look"]

QUICK = 1e-5  # rounding this small beside the gradient leaves a quick look all its power
BEND = 0.1  # a slope that changes by this share of the typical one within a step has a kink there
LEFT_OUT = 0.1  # share of the outputs that may be left out for their kinks
LASTING = 0.01  # share of the outputs with a kink at the point itself that may be
LARGER = 16.0  # how many times larger a first step may be made for the sake of rounding


def look(line, cotangents, gradients, rtol, h=None):
    """One view a cotangent; a ladder of steps where the first step does not settle all."""
    h = _first(line, cotangents, gradients, rtol) if h is None else h
    views = (
        _quick(line, cotangents, gradients, rtol, h)
        or _silent(line, cotangents, gradients, h)
        or _descend(line, cotangents, gradients, rtol, h)
        or _around_kinks(line, cotangents, gradients, rtol, h)
    )
    return views or climb(line, cotangents, gradients, rtol, h)


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
    asked = [gradients_for(line.problem, cotangent)[line.index] for cotangent in kept]
    if any(gradient is None for gradient in asked):
        return None
    own = [np.where(line.direction != 0, gradient, 0.0) for gradient in asked]
    return _quick(line, kept, own, rtol, h)

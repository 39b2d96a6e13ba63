"""A ladder of steps: where one step does not settle the matter, several measure their own errors.

Truncation shows in how the slope changes between two steps, rounding in what is left of the second
difference at the smallest one.
"""

import numpy as np

from minillm.gradcheck.kinks import bent, explained, has_kink, is_staircase, jumps
from minillm.gradcheck.rounding import beside_outputs, only_rounding
from minillm.gradcheck.steps import compare
from minillm.gradcheck.view import AGREES, DIFFERS, KINK, NULL, UNSURE, View

__all__ = ["SAFETY", "climb"]

POWER = {"float64": 1e-2, "float32": 3e-2}  # an uncertainty above this share has none
FINEST = 1e-12  # of the first step; no finer one is tried
SAFETY = 10.0  # between an estimated error and a tolerance


def climb(line, cotangents, gradients, rtol, h):
    """One view a cotangent at the best of a ladder of steps around h."""
    _rungs(line, cotangents, gradients, h)
    views = _deepened(line, cotangents, gradients, rtol)
    unsure = [view.h for view in views if view.state == UNSURE]
    if not unsure:
        return views
    for between in (unsure[0] / line.ratio**0.5, unsure[0] * line.ratio**0.5):
        line.pair(between)  # the best step may lie between two rungs
    return _weigh_all(line, cotangents, gradients, rtol)


def _rungs(line, cotangents, gradients, h):
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
        if not any(clear) or h < FINEST * line.first or not line.pair(h).usable:
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
    near = [h for h in finite if h <= line.scale]
    if near and len(near) < len(finite):  # a parabola allows any step, but few functions are one
        best = _best_of(line, cotangent, gradient, near)
        if SAFETY * best[3] <= POWER[line.problem.precision(line.index)] * best[2]:
            return best
    return _best_of(line, cotangent, gradient, finite)


def _best_of(line, cotangent, gradient, finite):
    """The best among some steps, the largest first."""
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
            rough = is_staircase(line, h, cotangent, gradient, residual)
            state = UNSURE if abs(residual) <= rounded or rough else DIFFERS
    else:
        state = UNSURE if doubt > power * scale else AGREES
    within = abs(residual) <= rtol * scale + doubt
    if state == UNSURE and within and beside_outputs(line.problem, line.index, cotangent, scale):
        state = NULL  # both gradients are what cancelling left
    return View(state, residual, scale, error, h)

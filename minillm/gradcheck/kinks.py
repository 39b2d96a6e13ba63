"""Points at which a function has no derivative, or none that its steps could show.

A kink, a jump, a tie: the point is to be moved before anything is said about a backward there.
"""

import numpy as np

from minillm.gradcheck.steps import Line, compare, length

__all__ = ["bent", "explained", "has_kink", "is_staircase", "jumps", "torn"]

ROUGH = 0.01  # of the outputs' size: no rounding is that large
TEARS = 8  # ways to part a direction before a leaf fails


def bent(line, pair, cotangent):
    """Whether the slope changes along this step by a third of itself, rounding apart."""
    bend, rounding = length(cotangent * pair.second), line.measured_noise(cotangent)
    return bend > 5 * rounding and bend / (2 * pair.h) > length(cotangent * pair.slope) / 3


def has_kink(line, cotangent, gradient, rtol, power):
    """Whether the slopes left and right of the point differ.

    Where a function is smooth its second difference falls with h^2, at a kink with h alone: divided
    by h it stays the same however small the step. How far backward may be off there can't be told
    from it: behind a sum, several kinks may hide each other. A kink too small to matter counts
    where backward disagrees.
    """
    steps = sorted((h for h, pair in line.pairs.items() if pair.usable), reverse=True)
    noise = line.measured_noise(cotangent)
    # the finest steps at which the second difference still stands out of the rounding
    clear = [h for h in steps if line.pairs[h].kink(cotangent) > 20 * noise / h][-2:]
    if len(clear) < 2:
        return False
    coarse, fine = (line.pairs[h] for h in clear)
    if fine.kink(cotangent) <= 0.5 * coarse.kink(cotangent):
        return False
    # one far from the point, which a finer step does not reach, does no harm
    finer = [h for h in steps if h < fine.h and fine.kink(cotangent) > 40 * noise / h]
    if fine.h > 4 * line.first or (fine.h > line.first and finer):
        return False
    residual, scale = compare(fine, cotangent, gradient)
    return abs(residual) > rtol * scale or fine.kink(cotangent) >= power * scale


def jumps(line, cotangent):
    """Whether the function jumps at the point: the finest steps all change it by the same."""
    finest = sorted((h for h, pair in line.pairs.items() if pair.usable))[:3]
    if len(finest) < 3 or finest[-1] > line.first:
        return False
    changes = [cotangent * line.pairs[h].slope * h for h in finest]
    size = length(changes[0])
    if size <= 1e3 * line.eps * length(cotangent * line.problem.flat):
        return False
    return all(length(change - changes[0]) < 0.1 * size for change in changes[1:])


def torn(line, view, cotangent, doubt, rng):
    """Whether the slope along a direction isn't the sum of those along two parts of it.

    Then the function has no derivative there, though it may look straight along each line: the
    median of three equal values, say.
    """
    whole = float(cotangent @ line.pair(view.h).slope)
    for _ in range(TEARS):
        part = rng.random(line.direction.shape) < 0.5
        directions = [np.where(mask, line.direction, 0.0) for mask in (part, ~part)]
        pairs = [Line(line.problem, line.index, v).pair(view.h) for v in directions]
        gap = abs(whole - sum(float(cotangent @ pair.slope) for pair in pairs))
        if gap > 0.1 * abs(view.residual) + doubt:
            return True
    return False


def explained(line, h, cotangent, gradient, disagreement):
    """How much of a disagreement seen at step h something else than a mistake explains.

    All of it, where what looks like rounding is no rounding but a share of the outputs themselves,
    as on a staircase; or where the step is larger than the values themselves and the line not
    plainly straight along it: far out, every bounded function looks flat.

    Forward may also round its input away before it uses it, as x + 1e9 does. Then backward agrees
    far better with a large step, and at a small one some of the outputs stand still. And a
    step across a kink is off by half of what the slope changes there, any step by the share of it
    that forward's first rounding of its input may be.
    """
    near = [p for p in line.pairs.values() if p.usable and p.h <= line.scale]
    changes = [pair.h * length(cotangent * pair.slope) for pair in near]
    size = max([length(cotangent * line.problem.flat), *changes])
    noise, pair = line.measured_noise(cotangent), line.pairs[h]
    change = 2 * h * length(cotangent * pair.slope)
    bend = length(cotangent * pair.second)
    straight = pair.unchanged or bend + 5 * noise <= 0.1 * change
    if noise > ROUGH * size or (h > line.scale and not straight):
        return np.inf
    usable = sorted((p for p in line.pairs.values() if p.usable), key=lambda pair: pair.h)
    still = (usable[0].slope == 0) & (usable[0].second == 0)
    coarser = min((p for p in usable if p.h > h), key=lambda p: p.h, default=pair)
    smooth = pair.kink(cotangent) <= 2 * coarser.kink(cotangent) * h / coarser.h
    values = line.problem.leaves[line.index].value[line.direction != 0]
    blurred = 5 * line.eps * length(values) / np.sqrt(max(values.size, 1)) / h
    seen = [blurred * change / (2 * h), 0.0 if smooth or bend <= 5 * noise else 0.55 * bend / h]
    for pair in usable[1:]:
        residual, _ = compare(pair, cotangent, gradient)
        if abs(residual) <= 0.1 * abs(disagreement):
            seen.append(2 * float(np.abs(cotangent) @ np.abs(pair.slope * still)))
    return max(seen)


def is_staircase(line, h, cotangent, gradient, disagreement):
    """Whether the slope at step h may be only that of a tread of a staircase.

    Rounding inside forward can make one, with a slope on each tread: x (1 + erf(x)) / 2 far left.
    Then a step that is still small has quite another slope, though no bend leads to it.
    """
    slope = float(cotangent @ line.pairs[h].slope)
    for step, pair in line.pairs.items():
        other = float(cotangent @ pair.slope)
        apart = abs(other - slope) > 0.5 * max(abs(disagreement), abs(slope), abs(other))
        near = h < step <= line.first * line.ratio**2
        if pair.usable and near and apart and not bent(line, pair, cotangent):
            residual, _ = compare(pair, cotangent, gradient)
            if abs(residual) < 0.5 * abs(disagreement):  # and backward bears that one out
                return True
    return False

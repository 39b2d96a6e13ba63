r"""Directional derivatives by central differences, their steps, and how far they can be trusted.

Along a direction v of one leaf, one pair of evaluations f(x + h v), f(x - h v) gives the change of
*every* output, so that any number of cotangents d is served by it: d . (f+ - f-) / 2h against
<gradient, v>. The truncation of the quotient falls with h^2, the rounding grows with 1 / h, and
they balance near h = eps^(1/3) of the function's scale (Nocedal & Wright 2006, section 8.1). Where
that first step does not settle the matter, a ladder of steps measures both errors.
"""

import math

import numpy as np

from minillm.gradcheck.problem import scale_of

__all__ = ["Line", "Pair", "bands", "compare", "default_rtol", "length"]

FEW = 0.15  # share of small elements that any normal array has
UNFAITHFUL = 0.05  # a direction that rounding changes by more is another direction


def default_rtol(dtype):
    """Ten times the square root of the precision: far above rounding, far below any mistake."""
    return 10 * float(np.sqrt(np.finfo(dtype).eps))


def length(values):
    """The Euclidean norm, safe from overflow and underflow of the squares."""
    flat = np.ravel(values)
    with np.errstate(all="ignore"):
        square = float(flat @ flat)
    if 1e-200 < square < np.inf:  # none overflowed, and those that underflowed are as nothing
        return math.sqrt(square)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(flat / largest))


class Pair:
    """The outputs one step h to either side of the point."""

    __slots__ = ("direction", "finite", "h", "second", "slope", "unchanged", "usable")

    def __init__(self, h, plus, minus, centre, direction, faithful):
        self.h = h
        self.direction = direction  # (plus point - minus point) / 2h as the dtype rounded it
        with np.errstate(all="ignore"):
            self.slope = (plus - minus) / (2 * h)  # (out_size,)
            self.second = (plus - centre) + (minus - centre)  # (out_size,)
        self.finite = bool(np.isfinite(plus).all() and np.isfinite(minus).all())
        self.usable = self.finite and faithful
        self.unchanged = bool(np.array_equal(plus, centre) and np.array_equal(minus, centre))

    def bends(self):
        """(out_size,) how much the slopes to the left and to the right of the point differ."""
        return np.abs(self.second) / self.h

    def kink(self, cotangent):
        """How much the one-sided slopes differ, as seen through a cotangent."""
        return length(cotangent * self.second) / self.h


class Line:
    """A direction in one leaf, and the pairs evaluated along it."""

    def __init__(self, problem, index, direction, band=None):
        self.problem, self.index, self.direction = problem, index, direction
        leaf = problem.leaves[index]
        values = leaf.value if band is None else leaf.value[band]
        precision = problem.precision(index)
        self.eps = float(np.finfo(precision).eps)
        self.scale = _scale(problem, index) if band is None else scale_of(values)
        typical = length(values) / np.sqrt(max(values.size, 1))
        # a step far below the values' own rounding would not be taken at all
        self.first = max(self.scale * self.eps ** (1 / 3), 64 * self.eps * typical)
        self.ratio = 32.0 if precision == "float64" else 4.0  # between two steps of the ladder
        self.pairs = {}
        self._sizes = {}

    @classmethod
    def random(cls, problem, index, rng, band=None):
        """Signs and sizes at random: no element (of the band) is left out, and no two cancel."""
        shape = problem.leaves[index].value.shape
        direction = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)
        if band is not None:
            direction = np.where(band, direction, 0.0)
        return cls(problem, index, direction, band)

    def pair(self, h):
        """The outputs at +h and -h, evaluated once."""
        if h not in self.pairs:
            x = self.problem.leaves[self.index].value
            step = h * self.direction
            # an element far larger than the rest moves, too
            least = 4 * self.problem.leaves[self.index].eps * np.abs(x)
            step = np.where(np.abs(step) < least, np.sign(self.direction) * least, step)
            with np.errstate(over="ignore"):  # an infinite end makes the step unusable
                ends = [self.problem.rounded(self.index, x + side * step) for side in (1, -1)]
            plus, minus = (self.problem.evaluate({self.index: end}) for end in ends)
            with np.errstate(invalid="ignore", over="ignore"):
                direction = (ends[0] - ends[1]) / (2 * h)
            faithful = length(direction - self.direction) <= UNFAITHFUL * length(self.direction)
            self.pairs[h] = Pair(h, plus, minus, self.problem.flat, direction, faithful)
        return self.pairs[h]

    def noise(self, cotangent, h):
        """The rounding to expect in cotangent . slope, from the outputs' own precision."""
        return self.eps * self._size(cotangent) / h

    def measured_noise(self, cotangent):
        """The rounding seen in cotangent . (f+ - f-) / 2 at the smallest step.

        There the second difference holds nothing but the rounding of its four terms (f0 twice),
        whose variance is 6 times that of one, and the half difference's is 1 / 2 of one.
        """
        usable = [pair for pair in self.pairs.values() if pair.usable]
        smallest = min(usable, key=lambda pair: pair.h, default=None)
        seen = self._size(cotangent, smallest.h) / np.sqrt(12) if smallest else 0.0
        return max(seen, self.eps * self._size(cotangent))

    def still_falling(self, cotangent):
        """Whether the second difference shrinks with the step even at the smallest one.

        Rounding does not shrink; what does is the function's own bending.
        """
        usable = sorted((p for p in self.pairs.values() if p.usable), key=lambda pair: pair.h)
        if len(usable) < 2 or usable[0].h > min(self.pairs):
            return False
        fine, coarse = (self._size(cotangent, pair.h) for pair in usable[:2])
        floor = self.eps * self._size(cotangent)
        return fine > 4 * floor and fine < coarse / np.sqrt(self.ratio)

    def _size(self, cotangent, h=None):
        """The norm of cotangent times the outputs, or times their second difference at step h."""
        key = id(cotangent), h
        if key not in self._sizes:
            values = self.problem.flat if h is None else self.pairs[h].second
            # the cotangent is kept with it, so that its id stays its own
            self._sizes[key] = cotangent, length(cotangent * values)
        return self._sizes[key][1]


def compare(pair, cotangent, gradient):
    """The residual along the pair's direction, and the scale to judge it by."""
    numeric = float(cotangent @ pair.slope)
    analytic = float(np.vdot(gradient, pair.direction))
    return numeric - analytic, max(length(gradient), abs(numeric))


def bands(values, eps):
    """Masks of the elements of like size, the largest first; none where one step suits them all."""
    sizes, ratio = np.abs(values), eps**-0.25
    seen = sizes[sizes > 0]
    if seen.size == 0 or seen.max() <= ratio * seen.min():
        return []
    sizes = np.where(sizes > 0, sizes, seen.max())
    place = np.floor(np.log(seen.max() / sizes) / np.log(ratio))
    if (place > 0).mean() < FEW:
        return []
    return [place == rank for rank in np.unique(place)]


def _scale(problem, index):
    """The scale of a leaf; one that is all zero borrows that of the others."""
    value = problem.leaves[index].value
    if np.any(value):
        return scale_of(value)
    others = [scale_of(leaf.value) for leaf in problem.leaves if np.any(leaf.value)]
    return float(np.median(others)) if others else 1.0

"""Both Jacobians of one leaf side by side, and the words in which a rule speaks of them.

Rows are output elements, columns the leaf's elements: row i of the analytic Jacobian is what the
backward returns for a cotangent that is one at output element i and zero elsewhere. Of many outputs
a box is taken, the first and last few along each axis. Where that shows nothing wrong, or the leaf
is too large, a row is the gradient for a random cotangent instead; `whole` tells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Block", "Guess", "View", "axis_words", "indices_words"]

LARGEST = 1_000_000  # numbers in a Jacobian that is looked at row by row
ROWS = 512  # and rows


@dataclass(frozen=True)
class Guess:
    """One rule's answer about one leaf.

    says completes a sentence that starts with the gradient's name; key tells which guesses of
    several leaves are the same mistake (None: only the cause and the ratio are compared).
    """

    cause: str
    likelihood: float
    says: str
    ratio: float | None = None


@dataclass(frozen=True)
class Block:
    """The rows that belong to one output."""

    name: str
    rows: slice
    shape: tuple[int, ...]
    places: tuple[np.ndarray, ...] = ()  # along each axis, where only some indices are looked at
    full: tuple[int, ...] = ()

    def words(self, indices, axis):
        """Indices along an axis in words, as they count in the whole output."""
        if not self.places:
            return indices_words(indices, self.shape[axis])
        return indices_words(self.places[axis][indices], self.full[axis])


class View:
    """The analytic Jacobian `a` and the numeric one `n`, both (rows, leaf size); n may hold NaN.

    tol is the absolute disagreement that the numeric values' precision explains, per column.
    """

    _reaches: Callable | None = None  # how a view that is no leaf's answers `reaches`

    def __init__(self, evidence, index):
        leaf = evidence.leaves[index]
        self.evidence, self.index = evidence, index
        self.name, self.value = leaf.name, np.asarray(leaf.value)
        self.shape, self.size = self.value.shape, self.value.size
        self.known = np.asarray(evidence.known(index))
        rows, self.blocks = _box(evidence.outputs, LARGEST // max(self.size, 1))
        self.whole = rows.size > 0
        if self.whole:
            self._by_output(rows)
        if not self.whole or (rows.size < evidence.out_size and not self.wrong.any()):
            self._by_cotangent()

    def _by_output(self, rows):
        """The Jacobians of the outputs `rows`: all, or a box of them."""
        evidence, self.rows = self.evidence, rows
        analytic = evidence.rows(self.index)
        if analytic is None:
            unit = np.zeros(evidence.out_size)
            analytic = np.empty((rows.size, self.size))
            for place, row in enumerate(rows):
                unit[row] = 1
                analytic[place] = np.ravel(evidence.analytic(self.index, unit))
                unit[row] = 0
        else:
            analytic = np.asarray(analytic, dtype=float)[rows]
        self.a, self.n = analytic, np.full_like(analytic, np.nan)
        columns = np.asarray(evidence.columns(self.index), dtype=float)[rows]
        finite = np.isfinite(columns).all(0)
        self.known = self.known[finite]
        self.n[:, self.known] = columns[:, finite]
        self._measure()

    def _by_cotangent(self):
        """The gradients for random cotangents in place of rows."""
        evidence, self.blocks, self.whole = self.evidence, [], False
        self.rows = np.arange(0)
        pairs = [
            (np.ravel(evidence.analytic(self.index, c)), np.ravel(evidence.numeric(self.index, c)))
            for c in evidence.cotangents
        ]
        self.a, self.n = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
        self._measure()

    @property
    def inside(self):
        """Whether this is no leaf, but an array inside a layer."""
        return self._reaches is not None

    @property
    def linear(self):
        """Whether the rows together tell what backward returns for a mixture of them."""
        if not self.whole or self.inside or self.rows.size < self.evidence.out_size:
            return True
        cotangent = self.evidence.cotangents[0]
        off = np.ravel(self.evidence.analytic(self.index, cotangent)) - cotangent @ self.a
        bound = 10 * self.tol * max(1.0, np.abs(cotangent).sum())
        return bool((np.abs(off) <= bound).all())

    def reaches(self, index):
        """(rows, leaf size) whether an output depends on an element of another leaf, or None."""
        if self._reaches is not None:
            return self._reaches(index)
        true = self.evidence.columns(index)[self.rows]
        if true.shape[1] < np.size(self.evidence.leaves[index].value):
            return None
        return np.abs(true) > 1e-9 * np.abs(true).max(initial=0.0)

    @classmethod
    def made(cls, parent, name, value, a, n, blocks=None):
        """A view of an array that is no leaf itself, from Jacobians worked out for it."""
        view = cls.__new__(cls)
        view.evidence, view.index, view.name = parent.evidence, parent.index, name
        view.value, view.shape, view.size = value, value.shape, value.size
        view.whole, view.blocks = parent.whole, parent.blocks if blocks is None else blocks
        view._reaches, view.rows = parent.reaches, parent.rows
        view.a, view.n = a, n
        view.known = np.flatnonzero(np.isfinite(n).all(0))
        view._measure()
        return view

    def _measure(self):
        """Tolerances, and where the two Jacobians disagree or are zero."""
        evidence = self.evidence
        self.others = [(leaf.name, leaf.value) for leaf in evidence.leaves]
        self.usable = self.known.size > 0 and bool(np.isfinite(self.a).all())
        self.relative = min(max(100 * evidence.precision, 1e-6), 0.05)
        self.tol = self.relative * scale_of(self.a, self.n)
        self.kn, self.ka = self.n[:, self.known], self.a[:, self.known]
        ktol = self.tol[self.known]
        self.wrong = np.abs(self.ka - self.kn) > ktol  # (rows, known)
        self.n_zero, self.a_zero = np.abs(self.kn) <= ktol, np.abs(self.ka) <= ktol

    def fits(self, expected, slack=0.0):
        """Whether `expected`, laid out like n, is the analytic Jacobian wherever it is known."""
        off = np.abs(self.a - expected) - self.tol - slack * np.abs(self.tol).max()
        known = np.isfinite(off)
        return bool(known.any() and not np.any(off[known] > 0) and np.nanmax(np.abs(expected)) > 0)

    def full(self, flags):
        """Flags over the known columns laid out over all of them, False where unknown."""
        out = np.zeros(self.a.shape, dtype=bool)
        out[:, self.known] = flags
        return out

    def tensor(self, matrix, block):
        """One output's rows as an array of shape (output's shape..., leaf's shape...)."""
        return matrix[block.rows].reshape(block.shape + self.shape)

    @property
    def entries(self):
        """How many entries of the numeric Jacobian are not zero: how much a fit proves."""
        return int((~self.n_zero).sum())


def scale_of(*matrices):
    """Each column's largest value, but no less than a thousandth of the largest of all."""
    top = np.max([np.nanmax(np.abs(m), axis=0, initial=0.0) for m in map(_finite, matrices)], 0)
    return np.maximum(top, 1e-3 * np.max(top, initial=0.0))


def _finite(matrix):
    return np.where(np.isfinite(matrix), matrix, 0.0)


def _box(outputs, room):
    """(rows, blocks) of the outputs to be looked at one by one: all, or a box of them.

    It holds the first and the last few along each axis; the longest axis is cut first, to no fewer
    than three.
    """
    shapes = [list(np.shape(value)) for _, value in outputs]
    most = min(ROWS, room)
    while sum(int(np.prod(shape)) for shape in shapes) > most:
        long = [(n, s, axis) for s, shape in enumerate(shapes) for axis, n in enumerate(shape)]
        longest = max((place for place in long if place[0] > 3), default=None)
        if longest is None:
            return np.arange(0), []
        shapes[longest[1]][longest[2]] -= 1
    rows, blocks, start, done = [], [], 0, 0
    for (name, value), shape in zip(outputs, shapes, strict=True):
        places = tuple(
            np.r_[: (n + 1) // 2, m - n // 2 : m]
            for n, m in zip(shape, np.shape(value), strict=True)
        )
        inside = np.arange(np.size(value)).reshape(np.shape(value))
        inside = inside[np.ix_(*places)].ravel() + start
        rows_here = slice(done, done + inside.size)
        blocks.append(Block(name, rows_here, tuple(shape), places, np.shape(value)))
        rows.append(inside)
        start, done = start + np.size(value), done + inside.size
    return np.concatenate(rows), blocks


def axis_words(axis, of):
    """An axis of an array in words."""
    return f"axis {axis} of {of}"


def indices_words(indices, length):
    """A set of indices along an axis of `length` in words, blocks and fractions by their name."""
    indices = sorted(int(i) for i in indices)
    first, count = indices[0], len(indices)
    run = indices == list(range(first, first + count))
    if count == 1:
        return f"index {first}" + (" (the last)" if first == length - 1 and length > 1 else "")
    if run:
        text = f"indices {first} to {indices[-1]}"
        parts = length // count
        if parts > 1 and length % count == 0 and first % count == 0 and parts <= 12:
            text += f" (part {first // count + 1} of {parts})"
        return text
    shown = ", ".join(map(str, indices[:6])) + (", ..." if count > 6 else "")
    return f"indices {shown}"

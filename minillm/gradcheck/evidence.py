"""Both gradients of a failing case, element by element: what a diagnosis is made from."""

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.gradients import Contract, by_argument, gradients_for
from minillm.tree import leaves

__all__ = ["Evidence"]

WHOLE_JACOBIAN = 512  # outputs up to which the analytic Jacobian is asked for row by row


class Evidence:
    """The analytic and the numeric gradient of every leaf, for any cotangent.

    Cotangents are flat, (out_size,), over all outputs in their order. Numeric derivatives are known
    for all elements of a small leaf and for some of a large one.

    Attributes
    ----------
    leaves : the differentiated arrays, each with name, value (float64) and argument
    outputs : [(name, value)]
    failed : indices of the leaves whose gradients disagree
    cotangents : random ones, at least three
    args, kwargs : as the functions under test got them
    precision : relative accuracy of the numeric derivatives
    """

    def __init__(self, problem, failed, steps, subsets, rng):
        self._problem, self._steps, self._subsets = problem, steps, subsets
        self.leaves, self.outputs, self.failed = problem.leaves, problem.outputs, list(failed)
        self.args, self.kwargs = problem.args, problem.kwargs
        self.out_size = problem.flat.size
        self.cotangents = [rng.standard_normal(self.out_size) for _ in range(3)]
        self.precision = problem.eps**0.5
        self._columns, self._analytic, self._rows = {}, {}, {}

    def known(self, index):
        """(n,) flat indices of the elements of a leaf whose numeric derivative is known."""
        return self._subsets[index]

    def columns(self, index):
        """(out_size, n) numeric derivatives of all outputs by the known elements."""
        if index not in self._columns:
            self._columns[index] = numeric_columns(
                self._problem, index, self._subsets[index], self._steps[index]
            )
        return self._columns[index]

    def numeric(self, index, cotangent):
        """The numeric gradient of a leaf, of its shape; NaN where it is not known."""
        gradient = np.full(self.leaves[index].value.size, np.nan)
        gradient[self.known(index)] = cotangent @ self.columns(index)
        return gradient.reshape(self.leaves[index].value.shape)

    def analytic(self, index, cotangent):
        """What backward says of a leaf, of its shape; NaN where it says nothing usable."""
        key = cotangent.tobytes()
        if key not in self._analytic:
            self._analytic[key] = gradients_for(self._problem, cotangent)
        found = self._analytic[key][index]
        return np.full(self.leaves[index].value.shape, np.nan) if found is None else found

    def raw(self, index, cotangent):
        """The gradient of a leaf as it came, in float64, whatever its shape; None without one."""
        leaf = self.leaves[index]
        found = by_argument(self._problem, Contract(), self._problem.vjp(cotangent))
        name = self._problem.names[leaf.argument]
        gradient = dict(leaves(found.get(leaf.argument), f"{name}.")).get(leaf.name)
        return arrays.host(gradient).astype(np.float64) if arrays.is_array(gradient) else None

    def rows(self, index):
        """(out_size, leaf size) analytic derivatives, or None where there are too many outputs."""
        if self.out_size > WHOLE_JACOBIAN:
            return None
        if index not in self._rows:
            eye = np.eye(self.out_size)
            self._rows[index] = np.array([self.analytic(index, row).ravel() for row in eye])
        return self._rows[index]


def numeric_columns(problem, index, elements, h):
    """(out_size, len(elements)) central differences, one element at a time."""
    columns = np.empty((problem.flat.size, len(elements)))
    for place, element in enumerate(elements):
        columns[:, place] = numeric_column(problem, index, element, h)
    return columns


def numeric_column(problem, index, element, h):
    """(out_size,) the derivatives of all outputs by one element of a leaf."""
    ends = []
    for side in (1, -1):
        values = problem.leaves[index].value.copy()
        values.reshape(-1)[element] += side * h
        ends.append(problem.rounded(index, values))
    plus, minus = (problem.evaluate({index: end}) for end in ends)
    moved = ends[0].reshape(-1)[element] - ends[1].reshape(-1)[element]
    with np.errstate(all="ignore"):
        return (plus - minus) / moved

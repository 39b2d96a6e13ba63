"""The complex step (Squire & Trapp 1998) as a second opinion, never as the judge.

Im f(x + i h v) / h is the derivative along v without any subtraction, exact to rounding, but only
where f is holomorphic: np.abs, np.linalg.norm, np.var and comparisons make it wrong in silence. It
is quoted only where the differences bear it out.
"""

import warnings

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.ladder import SAFETY
from minillm.tree import leaves, map_leaves

__all__ = ["second_opinion"]

TINY = 1e-30  # far below the last digit of any value: the step leaves no truncation


def second_opinion(problem, index, judgement, contract):
    """A sentence for the report, or None where a complex step says nothing."""
    line = judgement.line
    pair = line.pairs.get(judgement.h)
    if pair is None or not all(
        isinstance(leaf, np.ndarray) for _, leaf in leaves(problem.args) if arrays.is_float(leaf)
    ):
        return None
    slope = _complex_slope(problem, index, line.direction)
    if slope is None:
        return None
    cotangent = contract.cotangents[judgement.cotangent]
    gradient = contract.gradients[judgement.cotangent][index]
    exact, numeric = float(cotangent @ slope), float(cotangent @ pair.slope)
    scale = judgement.view.scale
    doubt = max(SAFETY * judgement.view.error, 1e-5 * scale)
    name = problem.leaves[index].name
    if abs(exact - numeric) > doubt:
        return None
    off = abs(exact - float(np.vdot(gradient, line.direction))) / scale if scale else 0.0
    return (
        f"second opinion: a complex step bears the differences out for {name} and is "
        f"{off:.1e} off the gradient of backward"
    )


def _complex_slope(problem, index, direction):
    """(out_size,) the derivative of all outputs, or None where forward takes no complex numbers."""
    place = -1

    def put(leaf):
        nonlocal place
        if not arrays.is_float(leaf):
            return leaf
        place += 1
        return leaf + 1j * TINY * direction if place == index else leaf

    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # a part would be lost
            out, _ = problem.call([map_leaves(put, arg) for arg in problem.args])
        found = [np.asarray(leaf) for _, leaf in leaves(out)]
        if not all(np.iscomplexobj(leaf) for leaf in found):
            return None
        flat = np.concatenate([leaf.ravel() for leaf in found])
    except Exception:  # whatever a function says to numbers that it was not written for
        return None
    slope = flat.imag / TINY
    return slope if slope.shape == problem.flat.shape and np.isfinite(slope).all() else None

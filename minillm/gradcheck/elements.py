"""The full scope: every element of a leaf differentiated on its own."""

from dataclasses import replace

import numpy as np

from minillm.gradcheck.evidence import numeric_column
from minillm.gradcheck.ladder import SAFETY
from minillm.gradcheck.look import look
from minillm.gradcheck.steps import Line, default_rtol
from minillm.gradcheck.view import DIFFERS, View

__all__ = ["judge_each"]


def judge_each(problem, index, contract, judgement, rtol=None):
    """The judgement of a leaf once each of its elements was compared too.

    An element that does not agree at the leaf's own step gets the same closer look as a leaf.
    """
    leaf = problem.leaves[index]
    rtol = default_rtol(problem.precision(index)) if rtol is None else rtol
    gradients = [found[index] for found in contract.gradients]
    line = judgement.line
    for element in range(leaf.value.size):
        column = numeric_column(problem, index, element, judgement.h)
        for k, cotangent in enumerate(contract.cotangents):
            numeric, analytic = float(cotangent @ column), float(gradients[k].flat[element])
            reached = np.where(column != 0, cotangent, 0.0)  # the others round, but cancel
            allowed = rtol * abs(numeric) + SAFETY * line.noise(reached, judgement.h)
            if abs(numeric - analytic) > allowed or not np.isfinite(numeric):
                found = _closer(problem, index, element, contract, gradients, rtol)
                if found is not None:
                    k, view = found
                    return replace(
                        judgement, state=DIFFERS, view=view, cotangent=k, h=view.h, reason=None
                    )
                break
    return judgement


def _closer(problem, index, element, contract, gradients, rtol):
    """(cotangent, view) where one element disagrees after a ladder of steps of its own."""
    direction = np.zeros(problem.leaves[index].value.shape)
    direction.flat[element] = 1.0
    # judged on its own size, not on the norm of the whole gradient
    own = [np.where(direction != 0, gradient, 0.0) for gradient in gradients]
    views: list[View] = look(Line(problem, index, direction), contract.cotangents, own, rtol)
    wrong = [(k, view) for k, view in enumerate(views) if view.state == DIFFERS]
    return max(wrong, key=lambda item: item[1].relative, default=None)

"""Whether a backward is right at a point, shown without any sampling: its whole Jacobian.

A wrong backward may be right at some points: a forgotten sum over a batch of one is no mistake. The
checker that lets it pass there is not to blame, but that must be shown by other means than its own.
"""

import numpy as np

from minillm.gradcheck.contract import changed, snapshot
from minillm.gradcheck.evidence import numeric_columns
from minillm.gradcheck.gradients import Contract, gradients_of
from minillm.gradcheck.problem import Problem, scale_of

__all__ = ["is_right"]

STEPS = (1.0, 0.1, 10.0)  # a kink or a bend within the first is often outside of the second
ENOUGH = 1e-6  # the differences' own accuracy, a share of the largest derivative, that proves it
MARGIN = 10.0  # of the analytic Jacobian's distance beyond that accuracy
MIXTURES = 3  # random cotangents, which show that backward is linear in what it is given


def is_right(forward, backward, args, kwargs=None):
    """Whether every element of the backward's Jacobian is the forward's derivative.

    The numeric Jacobian comes from central differences at two steps, whose distance is their
    accuracy; the analytic one from a backward for each output element alone. What the differences
    are too inaccurate to prove is not right, and neither is a backward that writes to what it is
    given or returns other shapes or dtypes than its arguments'.

    Parameters
    ----------
    forward, backward, args, kwargs : as for `check_vjp`

    Returns
    -------
    bool
    """
    problem = Problem(forward, backward, args, kwargs)
    problem.start()
    kept = snapshot(problem.args)
    size = problem.flat.size
    rng = np.random.default_rng(0)
    cotangents = np.vstack([np.eye(size), rng.standard_normal((MIXTURES, size))])
    analytic = _analytic(problem, cotangents)
    if analytic is None or changed(kept, problem.args):
        return False
    for index, rows in enumerate(analytic):
        if problem.leaves[index].value.size and not _agree(problem, index, cotangents, rows):
            return False
    return True


def _analytic(problem, cotangents):
    """For each leaf (len(cotangents), leaf size), or None where a gradient is not as it must be."""
    rows: list[list] = [[] for _ in problem.leaves]
    for cotangent in cotangents:
        dout = problem.cotangent(cotangent)
        kept, contract = snapshot(dout), Contract()
        found = gradients_of(problem, contract, problem.backward_of(dout))
        if contract.findings or changed(kept, dout):
            return None
        for row, gradient in zip(rows, found, strict=True):
            row.append(gradient.ravel())
    return [np.array(row) for row in rows]


def _agree(problem, index, cotangents, analytic):
    """Whether a leaf's analytic derivatives are the numeric ones, at the first step that tells."""
    scale, eps = scale_of(problem.leaves[index].value), problem.leaves[index].eps
    heights = float(np.max(np.abs(problem.flat), initial=0.0))
    for share in STEPS:
        h = share * scale * eps ** (1 / 3)
        numeric, accuracy = _jacobian(problem, index, h)
        accuracy += 10 * eps * heights / h
        largest = max(float(np.max(np.abs(numeric), initial=0.0)), heights / scale * eps**0.5)
        if accuracy <= ENOUGH * largest:
            allowed = MARGIN * accuracy * np.abs(cotangents).sum(1, keepdims=True)
            return bool(np.all(np.abs(analytic - cotangents @ numeric) <= allowed))
    return False


def _jacobian(problem, index, h):
    """(out_size, leaf size) derivatives of the outputs, and how far two steps lie apart."""
    every = range(problem.leaves[index].value.size)
    fine, coarse = (numeric_columns(problem, index, every, step) for step in (h, 2 * h))
    apart = float(np.max(np.abs(fine - coarse), initial=0.0))
    return fine, apart if np.isfinite(apart) else np.inf

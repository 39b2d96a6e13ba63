"""Ways to check a backward, each as a function (pair, seed) -> Verdict, to be compared.

A pair is a forward, a backward and a point (`minillm.gradcheck.selftest.Pair`). Every tool runs
with its own default settings, in float64.
"""

from typing import Any, NamedTuple

import numpy as np

from minillm.gradcheck import check_vjp
from minillm.gradcheck.gradients import Contract, by_argument
from minillm.gradcheck.problem import Problem
from minillm.tree import leaves, map_leaves

__all__ = ["PLAIN_STEP", "Verdict", "ours", "plain", "torch_gradcheck"]

PLAIN_STEP = 1e-5


class Verdict(NamedTuple):
    """ "pass", "fail" or "inconclusive", and how many forward evaluations it took."""

    verdict: str
    evaluations: int


def ours(scope):
    """minillm.gradcheck, `scope` "default" or "full"."""

    def check(pair, seed):
        report = check_vjp(*pair, seed=seed, scope=scope, diagnose=False)
        return Verdict(report.verdict, report.evaluations)

    return check


def plain(ones):
    """Central differences element by element, np.allclose, upstream of ones or random.

    What people write by hand: the gradient of (upstream * out).sum().
    """

    def check(pair, seed):
        problem = Problem(*pair)
        problem.start()
        size = problem.flat.size
        upstream = np.ones(size) if ones else np.random.default_rng(seed).standard_normal(size)
        try:
            gradients = _by_leaf(problem, problem.vjp(upstream))
            same = all(
                np.allclose(gradient, _differences(problem, index, upstream))
                for index, gradient in enumerate(gradients)
            )
        except (TypeError, ValueError):  # no gradient, or one that np.allclose cannot compare
            same = False
        return Verdict("pass" if same else "fail", problem.evaluations)

    return check


def torch_gradcheck(fast):
    """torch.autograd.gradcheck of an autograd.Function that calls the pair.

    It draws its directions from a generator of its own, whatever the seed.
    """

    def check(pair, seed):
        import torch

        problem = Problem(*pair)
        function = _as_function(problem, torch)
        inputs = tuple(torch.tensor(leaf.value, requires_grad=True) for leaf in problem.leaves)
        try:
            torch.autograd.gradcheck(function.apply, inputs, fast_mode=fast)
        except (RuntimeError, TypeError, ValueError):  # GradcheckError, or the engine's own refusal
            return Verdict("fail", problem.evaluations)
        return Verdict("pass", problem.evaluations)

    return check


def _as_function(problem, torch: Any):
    """The pair as an autograd.Function of its leaves, nests flattened."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            values = {index: tensor.detach().numpy() for index, tensor in enumerate(inputs)}
            out, ctx.cache = problem.call(problem.args_with(values))
            ctx.out = out
            return tuple(torch.tensor(np.asarray(leaf)) for _, leaf in leaves(out))

        @staticmethod
        def backward(ctx, *upstream):
            given = iter(upstream)
            dout = map_leaves(lambda _: next(given).numpy().copy()[()], ctx.out)
            gradients = _by_leaf(problem, problem.backward(dout, ctx.cache))
            return tuple(None if g is None else torch.tensor(np.asarray(g)) for g in gradients)

    return Function


def _by_leaf(problem, raw):
    """What a backward returned for each leaf, as it came; None for what is missing."""
    found = {}
    for argument, gradient in by_argument(problem, Contract(), raw).items():
        for path, leaf in leaves(gradient):
            found[problem.names[argument] + (f".{path}" if path else "")] = leaf
    return [found.get(leaf.name) for leaf in problem.leaves]


def _differences(problem, index, upstream):
    """The numeric gradient of one leaf."""
    x = problem.leaves[index].value
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        totals = []
        for h in (PLAIN_STEP, -PLAIN_STEP):
            moved = x.copy()
            moved[place] += h
            totals.append(float((upstream * problem.evaluate({index: moved})).sum()))
        gradient[place] = (totals[0] - totals[1]) / (2 * PLAIN_STEP)
    return gradient

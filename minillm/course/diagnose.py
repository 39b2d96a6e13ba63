"""The gradient checker on a student's op, through the pipe: which of two oracles objects, and why.

One oracle is the reference: is this the forward, are these the gradients that were asked for? The
other is the numerical derivative of the student's own forward: do the two halves belong together?
Where they disagree the student learns which half to look at.
"""

import itertools
import time

import numpy as np

from minillm.course.faults import Fault
from minillm.course.judge import difference
from minillm.course.questions import Stopped
from minillm.gradcheck import check_vjp
from minillm.tree import leaves, map_leaves

__all__ = ["Remote", "examine", "forward_is_right", "ordinary_case", "verdict"]

SECONDS = 1.5  # of one examination
SURE = 0.45  # likelihood from which a guess is passed on
SIZES = (4, 5, 2, 6, 7, 3)  # of the drawn case's dimensions: all different, none of 1
LEADING = ((3,), (3, 4))


class Remote:
    """A student's forward and backward as two functions on this side of the pipe.

    A cache stays in the student's process for as long as its token lives here: the next request
    says which are no longer needed.
    """

    def __init__(self, child, case, until):
        self.child, self.case, self.until = child, case, until
        self.numbers, self.dead, self.gone = itertools.count(), [], False

    def forward(self, *args, **kwargs):
        token = _Token(self, next(self.numbers))
        request = {"args": list(args), "kwargs": kwargs, "keep": token.key, "changed": True}
        came = self._ask("forward", request)
        _write_back(args, came)
        token.args, out = args, came["out"]
        return map_leaves(_floats, out), token

    def backward(self, dout, token):
        came = self._ask("backward", {"dout": dout, "keep": token.key, "changed": True})
        _write_back([*token.args, dout], came)
        return tuple(came[name] for name in self.case["gradients"])

    def _ask(self, drive, request):
        rest = self.until - time.monotonic()
        if self.gone or rest <= 0:
            raise Stopped
        forget, self.dead = self.dead, []
        base = {key: self.case[key] for key in ("module", "function", "gradients")}
        try:
            return self.child.ask(
                drive, base | request | {"forget": forget}, seconds=max(rest, 0.1), most=1 << 24
            )
        except Fault:
            self.gone = True
            raise


class _Token:
    """Stands for a cache that lies in the student's process."""

    def __init__(self, remote, key):
        self.remote, self.key, self.args = remote, key, ()

    def __deepcopy__(self, memo):
        return self

    def __del__(self):
        self.remote.dead.append(self.key)


def ordinary_case(op, seed):
    """A case that hides nothing: several rows, all dimensions different, no argument left out."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    letters = [d.letter for said in op.arrays.values() for d in said.dimensions if d.letter]
    letters = [letter for letter in dict.fromkeys(letters) if letter != "..."]
    for leading in LEADING if len(letters) <= len(SIZES) and not op.own else ():
        large = dict(zip(letters, SIZES, strict=False)) | {"...": list(leading)}
        try:
            return op.draw(rng, max(SIZES), large=large, none=False)
        except Exception:  # an axis that is not there, widths that must divide one another
            continue
    return op.draw(rng, 3, none=False)


def examine(child, case, until):
    """The checker's Report on the student's pair at a case, or None where it came to none."""
    remote = Remote(child, case, min(until, time.monotonic() + SECONDS))
    names = list(case["names"])
    present = [i for i, x in enumerate(case["args"]) if x is not None]
    if not any(isinstance(x, np.ndarray) for _, x in leaves(case["args"])):
        return None

    def forward(*args, **kwargs):
        full = dict(zip(present, args, strict=True))
        return remote.forward(*(full.get(i) for i in range(len(names))), **kwargs)

    def backward(dout, token):
        grads = remote.backward(dout, token)
        return tuple(grads[i] for i in present)

    try:
        return check_vjp(
            forward, backward, [case["args"][i] for i in present], case["kwargs"],
            names=[names[i] for i in present], allow_zero=True,
        )  # fmt: skip
    except (Fault, Stopped, ValueError, KeyError, TypeError):
        return None  # it broke off, or returned what no op returns: the check itself says so


def verdict(report, right, pick=None):
    """Lines: whether the two halves belong together, which was asked for, and the likely cause.

    Parameters
    ----------
    report : Report of `examine`
    right : whether the student's forward gives the reference's output
    pick : the one gradient that the check is about, such as "dx", or None
    """
    if report.verdict == "inconclusive":
        return []
    wrong = [f"d{leaf.name}" for leaf in report.leaves if leaf.verdict == "fail"]
    if report.verdict == "pass":
        if right:
            return [
                "Numerically your backward is the gradient of your forward, in float64 and at "
                "ordinary shapes: the mathematics is right. What fails is particular to this case."
            ]
        return [
            "Your backward is the gradient of your forward, but your forward is not the one that "
            "is asked for: look for the mistake in forward."
        ]
    if pick and wrong and pick not in wrong:
        if right:
            return [f"At these inputs {pick} is right: what fails is particular to the case above."]
        return [
            f"{pick} is the gradient of your own forward; but your forward is not the one that is "
            "asked for: look for the mistake there."
        ]
    lines = []
    if wrong:
        said = "Your backward is not the gradient of your forward"
        lines.append(f"{said}: {_listed(wrong)} {_differs(wrong)}.")
    if not right:
        lines.append("Your forward is not the one that is asked for, either: mend that first.")
    lines += [f"The checker saw: {finding.message}." for finding in _contract(report)]
    return lines + _causes(report, pick)


def forward_is_right(run, plan, child, case, until):
    """Whether the student's output at a case is the reference's; None where it cannot be told."""
    rest = until - time.monotonic()
    if rest <= 0:
        return None
    try:
        came = child.ask("forward", case, seconds=rest, most=1 << 24)
    except Fault:
        return None
    expected, _ = plan.reference.drive("forward", run.op.for_reference(case))
    return difference({"out": expected["out"]}, {"out": came.get("out")}) is None


def _contract(report):
    """Findings that say more than that a gradient is wrong."""
    told = ("mutates", "not deterministic", "cache spent", "shape", "dtype", "missing", "structure")
    return [finding for finding in report.contract if finding.rule in told][:2]


def _causes(report, pick):
    """The likeliest guess about the gradient in question; two where neither is likely."""
    leaf = pick.removeprefix("d") if pick else None
    found = [d for d in report.diagnoses if d.likelihood >= SURE]
    own = [d for d in found if leaf is None or d.leaf is None or d.leaf.split(".")[0] == leaf]
    lines = []
    sure = [d for d in own or found if d.likelihood >= 0.6][:1]
    for diagnosis in sure or (own or found)[:2]:
        word = "very likely" if diagnosis.likelihood >= 0.9 else "likely"
        word = word if diagnosis.likelihood >= 0.6 else "perhaps"
        lines.append(f"{word.capitalize()}: {diagnosis.message.rstrip('.')}.")
    return lines


def _differs(names):
    return "differ from the numerical ones" if len(names) > 1 else "differs from the numerical one"


def _listed(names):
    names = list(dict.fromkeys(names))
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _floats(x):
    """A Python number as an array, so that the checker has an output."""
    return np.asarray(x, np.float64) if isinstance(x, float) else x


def _write_back(arrays, came):
    """What the student's process wrote to in its copies is written here, for the checker to see."""
    changed = came.get("changed") or {}
    for i, x in changed.items():
        if isinstance(arrays[i], np.ndarray) and np.shape(x) == arrays[i].shape:
            arrays[i][...] = x

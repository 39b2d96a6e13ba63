"""What a backward costs on many elements: whether it can be a derived one.

A numerical gradient needs a forward for each element, or at best for each column; a Jacobian that
is written out takes as long. A derived gradient takes a few forwards. Counting calls of the
student's forward would show nothing, as one can write it again inside the backward: the clock shows
it. It is read here, around the pipe, for the process could set its own to anything.

Nothing can be prepared: the arrays come with the request for the forward and the upstream gradient
with the request for the backward, all requests for the forward together have a limit, and an answer
is read within its time. A backward that seemed slow is tried again on other arrays, lest it go on
where it stopped.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minillm.course.sandbox import Child, Fault
from minillm.tree import leaves

__all__ = ["Cost", "measured"]

TIMES = 50  # what a backward may take, in forwards (a derived one takes two or three)
SHORTEST = 0.002  # seconds: below that a forward cannot be timed through a pipe
SLOWEST = 20  # times the reference's forward: a slower forward does not buy time for the backward
PREPARED = (
    1.0  # seconds for all forwards, or the time of the slowest: nothing numerical is done by then
)
FORWARDS = 3


@dataclass
class Cost:
    """One measurement, for all checks that ask for it.

    Attributes
    ----------
    case, expected, came : of the check of cost; no output, for it is not looked at again
    problem : what is wrong with the cost, in one line, or None
    fault : Fault instead of an answer, or None
    """

    case: dict
    expected: dict
    came: Any = None
    problem: str | None = None
    fault: Fault | None = None


def measured(plan, run, child: Child, seed):
    """The Cost of an op's backward, as `run`, a check of cost, has its case."""
    (size,) = run.sizes
    case, expected = plan.answer(run, seed, size)
    cost = Cost(case, {**expected, "out": None})
    elements = sum(x.size for _, x in leaves(case["args"]))
    reference = _reference_seconds(run, plan.reference, case)
    longest = min(TIMES * max(SLOWEST * reference, SHORTEST), run.seconds)
    try:
        child.ask("put", {key: case[key] for key in ("module", "function")}, seconds=run.seconds)
        took = []
        for _ in range(FORWARDS):
            took.append(_clocked(child, "timed_forward", _at_hand(case), PREPARED + longest)[0])
        if sum(took) > max(PREPARED, longest):
            cost.problem = _of_forward(f"{sum(took):.2g}", elements)
            return cost
        forward = max(min(*took, SLOWEST * reference), SHORTEST)
        backward = _backward(cost, child, plan, run, seed, TIMES * forward)
    except Fault as fault:
        if fault.kind == "time":
            cost.problem = _of_forward(f"more than {PREPARED + longest:.2g}", elements)
        else:
            cost.fault = Fault(
                fault.kind, f"on {elements:,} elements: {fault}", fault.file, fault.line
            )
        return cost
    if backward > TIMES * forward:
        at_least = "" if cost.came is not None else "at least "
        cost.problem = (
            f"backward took {at_least}{backward:.2g} s on {elements:,} elements, {at_least}"
            f"{backward / forward:.0f} times its forward, and {TIMES} times is the most: a "
            "numerical gradient, or a Jacobian written out, takes that long; a derived and "
            "multiplied gradient takes a few times"
        )
    return cost


def _backward(cost, child, plan, run, seed, most):
    """Seconds of the backward, the best of three if it seems slow: a busy machine is no reason."""
    best = float("inf")
    for attempt in range(3):
        try:
            if attempt:
                cost.case, expected = plan.answer(run, seed + attempt, *run.sizes)
                cost.expected = {**expected, "out": None}
                child.ask("timed_forward", _at_hand(cost.case), seconds=max(PREPARED, most))
            dout = {"dout": cost.case["dout"]}
            seconds, cost.came = _clocked(child, "timed_backward", dout, 2 * most)
        except Fault as fault:
            if fault.kind != "time":
                raise
            return min(best, 2 * most)
        best = min(best, seconds)
        if best <= most:
            break
    return best


def _at_hand(case):
    return {key: value for key, value in case.items() if key != "dout"}


def _of_forward(seconds, elements):
    return (
        f"{FORWARDS} forwards on {elements:,} elements took {seconds} s: too long to measure their "
        "backward by; let NumPy work on whole arrays"
    )


def _clocked(child, drive, case, seconds):
    """(seconds, answer) of a request, without the time in which the process waited for a CPU."""
    start, waited = time.perf_counter(), _waited(child)
    came = child.ask(drive, case, seconds=seconds)
    return time.perf_counter() - start - (_waited(child) - waited), came


def _waited(child):
    """Seconds that the process was ready to run and did not; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{child.pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _reference_seconds(run, reference, case):
    """CPU seconds of the reference's forward on a case, the best of three."""
    case, best = run.op.for_reference(case), float("inf")
    for _ in range(3):
        start = time.thread_time()
        reference.drive("forward", case)
        best = min(best, time.thread_time() - start)
    return best

"""Questions to a student's process about one case after another, and what comes of a case."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minillm.course.faults import Fault
from minillm.course.judge import closeness
from minillm.tree import leaves

__all__ = ["Failing", "Questions", "Stopped", "kind", "says_nothing"]

FAINT = 1e-3  # an answer below this is as good as zero to a reader
MOST = 1 << 24  # bytes of an answer
NEAR = 0.02  # a difference that is easily overlooked


class Stopped(Exception):
    """No more questions: the number or the time is used up, or the process ended."""


@dataclass
class Failing:
    """A case that fails: what was expected, what came, and the judge's line or the exception's."""

    case: dict
    expected: Any
    came: Any
    problem: str
    raised: bool = False


@dataclass
class Questions:
    """Asks a student's process about cases, up to a number and a time.

    Attributes
    ----------
    until : time.monotonic() at which no further question is asked
    left : how many may still be asked
    """

    plan: Any
    run: Any
    child: Any
    until: float
    left: int = 40
    stopped: bool = field(default=False)

    def ask(self, drive, case, watch=None):
        """The process's answer, or Stopped; an exception of the student's passes as a Fault."""
        rest = self.until - time.monotonic()
        if self.stopped or self.left <= 0 or rest <= 0:
            raise Stopped
        self.left -= 1
        try:
            return self.child.ask(
                drive,
                case,
                watch=watch,
                seconds=min(self.run.seconds, max(rest, 0.1)),
                most=MOST,
            )
        except Fault as fault:
            if fault.kind not in ("raised", "not implemented"):
                self.stopped = True  # an end, a hang: once is enough
                raise Stopped from None
            raise

    def failing(self, case):
        """The Failing of a case; None where it holds."""
        expected = self.run.expected(case)
        try:
            came = self.ask(self.run.drive, case)
        except Fault as fault:
            return Failing(case, expected, {}, fault.message, raised=True)
        problem = self.run.judge(case, expected, came)
        return Failing(case, expected, came, problem) if problem else None


def kind(failing):
    """How a case fails: what to compare with another's."""
    if failing.raised:  # the shapes in an exception's text change with the case
        return [*failing.problem.split()[:2], failing.problem.rpartition(", at ")[2]]
    return _way(failing.problem)


def _way(problem):
    """A judge's line without its numbers and places: how a case fails."""
    problem = problem.partition(";")[0]
    return re.sub(r"\([^()]*\)|\[[^]]*\]|[-+]?\b(\d[\d.e+-]*|nan|inf)\b", "", problem).split()


def says_nothing(failing):
    """Whether a reader sees nothing: zeros are expected, one value, or nearly what came."""
    answer = failing.expected
    if failing.raised:
        return False
    if not isinstance(answer, dict) or "out" not in answer:
        return False
    outs = [np.asarray(x) for _, x in leaves(answer["out"])]
    flat = any(x.size > 1 and np.ptp(x) == 0 for x in outs)
    wrong = re.match(r"\w*", failing.problem)[0]  # type: ignore[index]
    sizes = [np.max(np.abs(x), initial=0) for _, x in leaves(answer.get(wrong))]
    if flat or (sizes and max(sizes) < FAINT):
        return True
    came = failing.came.get(wrong) if isinstance(failing.came, dict) else None
    theirs = dict(leaves(came))
    offs = [closeness(x, theirs[path]) for path, x in leaves(answer.get(wrong)) if path in theirs]
    return bool(sizes and offs) and max(offs) < NEAR * max(sizes)

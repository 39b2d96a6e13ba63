"""What a check says: a verdict, where the gradient is wrong, and what the mistake may be."""

import json
import math
from dataclasses import asdict, dataclass, field

__all__ = ["Diagnosis", "Finding", "GradientError", "LeafResult", "Report"]

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"


class GradientError(AssertionError):
    """A check that did not pass; the text is the whole report."""

    def __init__(self, report):
        super().__init__(f"\n{report}")
        self.report = report


@dataclass(frozen=True)
class Finding:
    """A broken contract: the rule, the leaf (or None for the whole pair), and what was seen."""

    rule: str
    leaf: str | None
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """A mistake that would explain the disagreement, with its likelihood between 0 and 1."""

    cause: str
    leaf: str | None
    message: str
    likelihood: float
    ratio: float | None = None


@dataclass
class LeafResult:
    """One differentiated array: whether its gradient agrees, and how well.

    error and tolerance are relative to the norm of the gradient along a random direction;
    worst holds (index, analytic, numeric), the largest disagreement first.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str = PASS
    reason: str | None = None
    error: float | None = None
    tolerance: float | None = None
    norm: float | None = None
    n_wrong: int | None = None
    worst: list[tuple[tuple[int, ...], float, float]] = field(default_factory=list)
    message: str = ""

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


@dataclass
class Report:
    """The result of one check; `print` shows it to a person, `to_json` to a machine."""

    subject: str
    seed: int
    scope: str
    leaves: list[LeafResult] = field(default_factory=list)
    contract: list[Finding] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evaluations: int = 0
    backwards: int = 0
    replay: str = ""

    @property
    def verdict(self):
        """ "pass", "fail", or "inconclusive" where the check had no power."""
        verdicts = {leaf.verdict for leaf in self.leaves}
        if self.contract or FAIL in verdicts:
            return FAIL
        return INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS

    @property
    def passed(self):
        return self.verdict == PASS

    def raise_unless_passed(self, inconclusive_ok=False):
        """Raise GradientError, whose text is this report, unless the check passed."""
        if self.verdict == FAIL or (self.verdict == INCONCLUSIVE and not inconclusive_ok):
            raise GradientError(self)

    def to_dict(self):
        """Plain values only; numbers that are not finite become None, which JSON can hold."""
        return _plain({"verdict": self.verdict} | asdict(self))

    def to_json(self, indent=None):
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def __str__(self):
        lines = [f"{self.subject}: {self.verdict.upper()}"]
        lines += [f"  contract: {finding.message}" for finding in self.contract]
        width = max((len(leaf.name) for leaf in self.leaves), default=0)
        for leaf in self.leaves:
            lines += [f"  {line}" for line in _leaf_lines(leaf, width)]
        if self.diagnoses:
            lines.append("  probably:")
            lines += [f"    {_odds(d.likelihood)}  {d.message}" for d in self.diagnoses]
        lines += [f"  note: {note}" for note in self.notes]
        lines.append(
            f"  {self.evaluations} forward evaluations, {self.backwards} backward calls, "
            f"seed {self.seed}"
        )
        if self.verdict != PASS and self.replay:
            lines.append(f"  replay: {self.replay}")
        return "\n".join(lines)


def _leaf_lines(leaf, width):
    """One line for a leaf, and its worst elements where it is wrong."""
    head = f"{leaf.name:<{width}}  {leaf.shape!s:<10} {leaf.dtype}  {leaf.verdict}"
    if leaf.error is not None and leaf.verdict != INCONCLUSIVE:
        head += f"  off by {leaf.error:.1e} of the gradient's norm (allowed {leaf.tolerance:.1e})"
    if leaf.n_wrong:
        head += f", {leaf.n_wrong} of {math.prod(leaf.shape)} elements wrong"
    yield head
    if leaf.message:
        yield f"{'':<{width}}  {leaf.message}"
    if leaf.verdict == FAIL and leaf.worst:
        yield f"{'':<{width}}  worst elements:"
        for index, analytic, numeric in leaf.worst:
            place = f"[{', '.join(map(str, index))}]" if index else "the value"
            yield f"{'':<{width}}    {place:<12} backward {analytic: .6e}   numeric {numeric: .6e}"


def _odds(likelihood):
    words = ((0.9, "very likely"), (0.6, "likely"), (0.3, "perhaps"))
    return next((word for least, word in words if likelihood >= least), "faintly")


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value

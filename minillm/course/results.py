"""What came of checking: one result a check, one grade a submission."""

from dataclasses import dataclass, field

__all__ = [
    "CRASHED",
    "FAILS",
    "HOLDS",
    "INCONCLUSIVE",
    "MEMORY",
    "MISSING",
    "NOT_RUN",
    "REFUSED",
    "STATUSES",
    "STUB",
    "TIME",
    "CheckResult",
    "Grade",
]

HOLDS = "holds"
FAILS = "fails"  # it answered, and the answer is wrong
STUB = "not implemented"
MISSING = "not handed in"
CRASHED = "crashed"  # it raised, or its process ended
TIME = "out of time"
MEMORY = "out of memory"
REFUSED = "refused"  # it did what no solution does: wrote to the grader's pipe, printed a flood
INCONCLUSIVE = "inconclusive"  # ours to fix
NOT_RUN = "not run"
STATUSES = (
    HOLDS, FAILS, STUB, MISSING, CRASHED, TIME, MEMORY, REFUSED, INCONCLUSIVE, NOT_RUN,
)  # fmt: skip


@dataclass(frozen=True)
class CheckResult:
    """One check of one task.

    Attributes
    ----------
    task, name : str, which check; the two together are unique in an assignment
    title : str, what it asks, as a statement: "the output is right"
    points : float, what it is worth
    status : str, one of STATUSES
    reason : str, one line for the student: what happened
    detail : str, several lines of plain text: the smallest failing case, the table of intermediate
        values, the gradient checker's diagnosis; may hold what the student's code printed or raised
    seconds : float, of the student's process
    """

    task: str
    name: str
    title: str
    points: float
    status: str
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0

    @property
    def earned(self):
        """All of a check's points or none: partial credit is in the number of checks."""
        return self.points if self.status == HOLDS else 0.0


@dataclass
class Grade:
    """One submission's results.

    Attributes
    ----------
    student : str, the folder's name
    assignment, version : str, such as "hw3" and "1.0"
    seed : int, of everything drawn; the same seed draws the same cases
    variant : dict, this student's variant, {} for none
    isolation : str, one sentence: what kept the student's process from the answers
    results : list of CheckResult, in the manifest's order
    seconds : float, of the whole submission
    """

    student: str
    assignment: str
    version: str
    seed: int
    variant: dict = field(default_factory=dict)
    isolation: str = ""
    results: list[CheckResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def points(self):
        return sum(result.points for result in self.results)

    @property
    def earned(self):
        return sum(result.earned for result in self.results)

    @property
    def share(self):
        """Of all points, between 0 and 1."""
        return self.earned / self.points if self.points else 0.0

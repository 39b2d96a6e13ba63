"""What can go wrong with a student's process: a Fault is the student's, a HarnessError is ours."""

__all__ = ["KINDS", "Fault", "HarnessError"]

KINDS = (
    "raised",
    "not implemented",
    "ended",
    "time",
    "memory",
    "printed",
    "damaged",
    "too large",
    "refused",
)


class HarnessError(Exception):
    """The grader could not do what it promises, such as setting up the isolation: exit code 4."""


class Fault(Exception):
    """A request that a student's process did not answer.

    Attributes
    ----------
    kind : one of KINDS
    message : one line for the student, saying what happened
    file, line : where in the student's files, None where that is not known
    """

    def __init__(self, kind, message, file=None, line=None):
        super().__init__(message)
        assert kind in KINDS, kind
        self.kind, self.message, self.file, self.line = kind, message, file, line

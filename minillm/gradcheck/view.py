"""What a line shows through one cotangent: whether a gradient agrees with the differences there."""

from dataclasses import dataclass

__all__ = ["AGREES", "DIFFERS", "KINK", "NULL", "UNSURE", "View"]

AGREES, NULL, UNSURE, KINK, DIFFERS = "agrees", "null", "unsure", "kink", "differs"


@dataclass
class View:
    """A line seen through one cotangent at its best step."""

    state: str
    residual: float  # cotangent . slope - <analytic, direction>
    scale: float  # the norm of the gradient, analytic or numeric, whichever is larger
    error: float  # what the differences themselves may be off by
    h: float

    @property
    def relative(self):
        return abs(self.residual) / self.scale if self.scale else 0.0

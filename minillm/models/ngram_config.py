"""What an n-gram model is counted and smoothed with."""

import dataclasses
import math
import numbers

from minillm.errors import UserError, whole

__all__ = ["COMPATIBILITIES", "NGramConfig"]

COMPATIBILITIES = ("kenlm",)
# setting -> the smoothings that read it, and what None means to them
READ_BY = {
    "k": (("add-k",), 1.0),
    "discount": (("absolute-discounting", "kneser-ney"), None),
    "cutoff": (("katz",), 5),
    "factor": (("stupid-backoff",), 0.4),
    "buckets": (("jelinek-mercer",), 1),
    "weights": (("jelinek-mercer",), None),
    "compatibility": (("modified-kneser-ney",), None),
}
NAMES = (
    "mle",
    "add-k",
    "good-turing",
    "katz",
    "jelinek-mercer",
    "witten-bell",
    "absolute-discounting",
    "kneser-ney",
    "modified-kneser-ney",
    "stupid-backoff",
)
GIVEN = "given"  # probabilities that come from elsewhere, such as an ARPA file


@dataclasses.dataclass(frozen=True)
class NGramConfig:
    """The settings of an n-gram model. None: the smoothing's usual value.

    Attributes
    ----------
    order : int >= 1, tokens in the longest n-gram, the predicted one included
    smoothing : str, a key of minillm.models.ngram_smoothing.SMOOTHINGS; "given" for a model whose
        probabilities were read rather than counted
    k : float > 0, what add-k adds to every count (1)
    discount : float in (0, 1), of absolute discounting and Kneser-Ney (from the counts of counts)
    cutoff : int >= 2, the largest count that Katz discounts (5)
    factor : float in (0, 1), of stupid back-off (0.4)
    buckets : int >= 1, Jelinek-Mercer's weights for each length, by how often a context was seen:
        once, 2 or 3 times, 4 to 7 times, ... (1: one weight a length)
    weights : for each length a tuple of Jelinek-Mercer's weights in [0, 1), one a bucket (found by
        EM on held-out text)
    prune : for each length, how often an n-gram may occur and still be left out, as KenLM's
        --prune: (0, 0, 1) drops those of three tokens or more that occur once. The last one holds
        for longer ones too (nothing)
    compatibility : "kenlm" for the numbers of KenLM's lmplz, None for the textbook's

    Raises
    ------
    UserError
        for a setting out of its range, or one that the smoothing does not have.
    """

    order: int = 5
    smoothing: str = "modified-kneser-ney"
    k: float | None = None
    discount: float | None = None
    cutoff: int | None = None
    factor: float | None = None
    buckets: int | None = None
    weights: tuple | None = None
    prune: tuple | None = None
    compatibility: str | None = None

    def __post_init__(self):
        self._set("order", whole("order", self.order, 1))
        if self.smoothing not in (*NAMES, GIVEN):
            raise UserError(f"smoothing must be {_or((*NAMES, GIVEN))}, got {self.smoothing!r}")
        for name, (readers, _) in READ_BY.items():
            if getattr(self, name) is not None and self.smoothing not in readers:
                raise UserError(f"{self.smoothing} has no {name}: it is for {_or(readers)}")
        for name, high in (("k", math.inf), ("discount", 1), ("factor", 1)):
            self._set(name, _number(name, getattr(self, name), high))
        for name, least in (("cutoff", 2), ("buckets", 1)):
            if (value := getattr(self, name)) is not None:
                self._set(name, whole(name, value, least))
        if self.compatibility not in (None, *COMPATIBILITIES):
            raise UserError(f"compatibility must be kenlm, got {self.compatibility!r}")
        self._check_weights()
        self._check_prune()

    def value(self, name):
        """A setting, or its smoothing's usual value where it is None."""
        given = getattr(self, name)
        return READ_BY[name][1] if given is None else given

    def threshold(self, length):
        """How often an n-gram of a length may occur and still be left out; 0: all are kept."""
        return self.prune[min(length, len(self.prune)) - 1] if self.prune else 0

    def _set(self, name, value):
        object.__setattr__(self, name, value)  # as a frozen dataclass has it

    def _check_weights(self):
        if self.weights is None:
            return
        n, many = self.order, self.value("buckets")
        try:
            weights = tuple(tuple(float(x) for x in row) for row in self.weights)
            fit = len(weights) == n and all(len(row) == many for row in weights)
            fit = fit and all(0 <= x < 1 for row in weights for x in row)
        except (TypeError, ValueError):
            fit = False
        if not fit:
            raise UserError(
                f"weights must be {n} times {many} numbers in [0, 1), got {self.weights!r}"
            )
        self._set("weights", weights)

    def _check_prune(self):
        if self.prune is None:
            return
        prune = tuple(self.prune) if isinstance(self.prune, tuple | list) else (self.prune,)
        prune = tuple(whole("prune", value, 0) for value in prune)
        if not prune or prune[0] or list(prune) != sorted(prune) or len(prune) > self.order:
            raise UserError(
                f"prune must be at most {self.order} whole numbers that begin with 0 (no token is "
                f"left out) and never fall, got {prune}"
            )
        self._set("prune", prune)


def _number(name, value, high):
    """The number as Python's own; refuse what is none between 0 and `high`. None is right."""
    if value is None:
        return None
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 < value < high):
        what = "a number above 0" if high == math.inf else f"between 0 and {high}"
        raise UserError(f"{name} must be {what}, got {value!r}")
    return value if isinstance(value, int) else float(value)


def _or(names):
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last

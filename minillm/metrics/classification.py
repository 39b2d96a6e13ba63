"""Precision, recall and F1 of classes, and the table of which was taken for which.

Source: van Rijsbergen, Information Retrieval (1979), ch. 7, for precision, recall and F; the
averages as scikit-learn has them. Left out: weights of samples, several classes at once, F of
other betas. Entities in sequences of tags: see sequence.py.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.metrics.checks import is_number, listed

__all__ = ["Classification", "Confusion", "Scores", "classification", "confusion_matrix"]

AVERAGES = ("micro", "macro", "weighted")


@dataclasses.dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 of one class, or an average; support: how many truly are of it."""

    precision: float
    recall: float
    f1: float
    support: int

    def __str__(self):
        return (
            f"precision {self.precision:.4f}, recall {self.recall:.4f}, F1 {self.f1:.4f} "
            f"({self.support} true)"
        )


@dataclasses.dataclass(frozen=True)
class Classification:
    """The scores of each class and their averages.

    Attributes
    ----------
    classes : dict, label -> Scores
    micro, macro, weighted : Scores: of all decisions counted together; the plain mean over the
        classes; the mean weighted by support
    accuracy : float, the share of places that are right, whatever their label; None where a place
        has more than a label, as an entity does
    """

    classes: dict
    micro: Scores
    macro: Scores
    weighted: Scores
    accuracy: float | None = None

    def __str__(self):
        start = "" if self.accuracy is None else f"accuracy {self.accuracy:.4f}, "
        return (
            f"{start}F1 micro {self.micro.f1:.4f}, macro {self.macro.f1:.4f}, "
            f"weighted {self.weighted.f1:.4f} over {len(self.classes)} classes"
        )

    def table(self, digits=4):
        """A line for each class and each average, with a header."""
        rows = {str(label): scores for label, scores in self.classes.items()}
        rows |= {f"{name} average": getattr(self, name) for name in AVERAGES}
        width = max(map(len, rows))
        lines = [f"{'':{width}} {'precision':>10} {'recall':>10} {'F1':>10} {'support':>10}"]
        for name, s in rows.items():
            numbers = " ".join(f"{x:>10.{digits}f}" for x in (s.precision, s.recall, s.f1))
            lines.append(f"{name:{width}} {numbers} {s.support:>10}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Confusion:
    """counts[i, j]: how often a place that is labels[i] was predicted to be labels[j], (L, L)."""

    labels: list
    counts: np.ndarray

    def __str__(self):
        right, total = int(np.trace(self.counts)), int(self.counts.sum())
        return f"{right} of {total} on the diagonal over {len(self.labels)} labels"

    def table(self):
        """A row for each true label, a column for each predicted one."""
        names = [str(label) for label in self.labels]
        width = max(map(len, [*names, *map(str, self.counts.ravel())]), default=0)
        lines = [" ".join(f"{name:>{width}}" for name in ["", *names])]
        for name, row in zip(names, self.counts, strict=True):
            lines.append(" ".join(f"{cell!s:>{width}}" for cell in [name, *row]))
        return "\n".join(lines)


def confusion_matrix(predicted, target, *, labels=None):
    """Count which class was predicted for which.

    Equation: counts[i, j] = #{n : target[n] = labels[i] and predicted[n] = labels[j]}

    Parameters
    ----------
    predicted, target : (N,) each, strings or integers
    labels : the labels in the order wanted, and only these; None: all that occur, sorted

    Returns
    -------
    Confusion

    Raises
    ------
    ValueError
        for what is no list, lengths that differ, labels that are neither all strings nor all
        integers (True beside 1 is one of another kind), or twice one.
    """
    order, rows, columns = _numbered(predicted, target, labels)
    size = len(order)
    inside = (rows < size) & (columns < size)
    pairs = rows[inside] * size + columns[inside]
    counts = np.bincount(pairs, minlength=size * size)  # (L * L,)
    return Confusion(order, counts.reshape(size, size))


def classification(predicted, target, *, labels=None, zero_division=0.0):
    """Precision, recall and F1 of each class, and their averages.

    Equation: precision = tp / (tp + fp), recall = tp / (tp + fn), F1 = 2 tp / (2 tp + fp + fn)

    Parameters
    ----------
    predicted, target : (N,) each, strings or integers
    labels : the classes to score, in this order; None: all that occur, sorted. What is left out
        still counts as a mistake where it was taken for one of them
    zero_division : 0.0, 1.0 or NaN, a quotient whose denominator is zero; averages pass over a NaN

    Returns
    -------
    Classification

    Raises
    ------
    ValueError
        as `confusion_matrix`, or for another zero_division.
    UserError
        where there is nothing to score.
    """
    check_zero_division(zero_division, nan=True)
    predicted, target = _plain("predicted", predicted), _plain("target", target)
    order, rows, columns = _numbered(predicted, target, labels)
    if len(rows) == 0:
        raise UserError("there is nothing to score: no labels came")
    size = len(order)
    right = rows == columns
    # One place more than there are classes: what `labels` leaves out is counted there, and dropped.
    tp = np.bincount(rows[right], minlength=size + 1)[:size]
    predictions = np.bincount(columns, minlength=size + 1)[:size]
    support = np.bincount(rows, minlength=size + 1)[:size]
    result = from_counts(order, tp, predictions, support, zero_division=zero_division)
    same = np.asarray(predicted) == np.asarray(target)
    return dataclasses.replace(result, accuracy=float(same.mean()))


def class_counts(predicted, target, labels):
    """The counts that the scores are made of, which add up over places.

    Returns
    -------
    counts : int8 (N, 3, L), whether a place is rightly, is said to be and is truly of a class
    """
    order, rows, columns = _numbered(predicted, target, labels)
    classes = np.arange(len(order))
    truly, said = rows[:, None] == classes, columns[:, None] == classes
    return np.stack([truly & said, said, truly], axis=1).astype(np.int8)


def counted(labels, counts, *, zero_division=0.0):
    """The scores of counts (3, L): right, predicted and true."""
    return from_counts(labels, *counts, zero_division=zero_division)


def from_counts(labels, tp, predictions, support, *, zero_division=0.0):
    """The scores of classes of which the right, the predicted and the true ones were counted.

    Parameters
    ----------
    labels : list of L labels
    tp, predictions, support : int (L,)

    Returns
    -------
    Classification, without an accuracy
    """
    each = _divided(tp, predictions, support, zero_division)
    classes = {
        label: Scores(float(precision), float(recall), float(f1), int(n))
        for label, precision, recall, f1, n in zip(labels, *each, support, strict=True)
    }
    sums = [x.sum(keepdims=True) for x in (tp, predictions, support)]
    pooled = _divided(sums[0], sums[1], sums[2], zero_division)
    total = int(support.sum())

    def average(columns, weights):
        precision, recall, f1 = (_mean(x, weights, zero_division) for x in columns)
        return Scores(precision, recall, f1, total)

    return Classification(
        classes,
        micro=average(pooled, np.ones(1)),
        macro=average(each, np.ones(len(support))),
        weighted=average(each, support),
    )


def _divided(tp, predictions, support, zero_division):
    """Precision, recall and F1, float (L,) each; tp + fp = predictions and tp + fn = support."""
    precision = _divide(tp, predictions, zero_division)
    recall = _divide(tp, support, zero_division)
    return precision, recall, _divide(2 * tp, predictions + support, zero_division)


def _divide(numerator, denominator, zero_division):
    defined = denominator != 0
    quotient = numerator / np.where(defined, denominator, 1)
    return np.where(defined, quotient, zero_division)


def _mean(values, weights, zero_division):
    """The weighted mean of what is no NaN; the plain one where none of that has a weight."""
    if len(values) == 0:
        return float(zero_division)
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    values, weights = values[known], weights[known]
    return float(np.average(values, weights=weights if weights.any() else None))


def check_zero_division(value, *, nan=False):
    """Refuse what is not 0, 1 or, where that is meant, NaN, with a ValueError."""
    if not (is_number(value) and (value in (0, 1) or (nan and np.isnan(value)))):
        known = "0.0, 1.0 or NaN" if nan else "0.0 or 1.0"
        raise ValueError(f"zero_division must be {known}, got {value!r}")


def _numbered(predicted, target, labels):
    """The labels in order, and target and predicted as their places, L for any other label."""
    predicted, target = _plain("predicted", predicted), _plain("target", target)
    if len(predicted) != len(target):
        raise ValueError(f"target must have length {len(predicted)}, got {len(target)}")
    order = [] if labels is None else _plain("labels", labels)
    _check_one_type([*target, *predicted, *order])
    if labels is None:
        order = sorted({*target, *predicted})
    if len(set(order)) != len(order):
        raise ValueError("labels must name each label once")
    place = {label: i for i, label in enumerate(order)}
    rows, columns = (
        np.fromiter((place.get(x, len(order)) for x in values), np.int64, len(values))
        for values in (target, predicted)
    )
    return order, rows, columns


def _plain(name, values):
    """Labels as a list of str and int, whatever sequence they came in."""
    values = listed(name, values.tolist() if isinstance(values, np.ndarray) else values)
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _check_one_type(labels):
    """Refuse labels of two kinds; True and 1 would be the same one, were they let through."""
    types = set(map(type, labels))
    if not any(all(issubclass(one, kind) for one in types) for kind in (str, int)) or (
        bool in types and len(types) > 1
    ):
        names = ", ".join(sorted(one.__name__ for one in types))
        raise ValueError(f"labels must be all strings or all whole numbers, got {names}")

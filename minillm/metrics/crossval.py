"""Cross-validation: every document is tested on once, by a model that was not trained on it.

Source: Stone 1974 (doi 10.1111/j.2517-6161.1974.tb00994.x); Kohavi 1995 (IJCAI, "A study of
cross-validation and bootstrap") for strata. Without a generator the folds are those of
scikit-learn's KFold and StratifiedKFold with shuffle=False; shuffled ones are as likely, but other
ones, since it draws from another generator.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError, is_whole, require
from minillm.metrics.checks import listed
from minillm.metrics.evaluate import evaluate

__all__ = ["CrossValidation", "cross_validate", "k_fold", "stratified_k_fold"]


def k_fold(n, k, *, rng=None):
    """Cut n things into k folds, each the test part once.

    Fold i has n // k things, and one more if i < n mod k, in their order.

    Parameters
    ----------
    n : int
    k : int, 2 <= k <= n
    rng : numpy.random.Generator that shuffles them first; None: they stay in order

    Returns
    -------
    list of k (train, test), int64: the indices outside a fold and in it, both ascending

    Raises
    ------
    UserError
        for k below 2 or above n, or what is no whole number or no generator.
    """
    require("n", n, is_whole(n) and n >= 0, "a whole number of at least 0")
    _check(n, k, rng)
    order = np.arange(n) if rng is None else rng.permutation(n)
    fold = np.empty(n, np.int64)
    for i, part in enumerate(np.array_split(order, k)):
        fold[part] = i
    return _parts(fold, k)


def stratified_k_fold(labels, k, *, rng=None):
    """As `k_fold`, with the classes in every fold in the proportion that they have in all.

    The things sorted by class are dealt out to the folds in turn, like cards: that says how many
    of each class a fold gets. Within a class they then go to the folds in order.

    Parameters
    ----------
    labels : (n,), each thing's class; classes count in the order in which they first come

    Raises
    ------
    ValueError
        for labels that cannot be told apart by a dict, such as lists.
    UserError
        for k below 2 or above n, or above the size of every class.
    """
    labels = listed("labels", labels.tolist() if isinstance(labels, np.ndarray) else labels)
    n = len(labels)
    _check(n, k, rng)
    try:
        number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    except TypeError as error:
        raise ValueError(f"labels must be such as strings or whole numbers: {error}") from None
    classes = np.array([number[label] for label in labels])  # (n,)
    sizes = np.bincount(classes)  # (C,)
    if sizes.max() < k:
        raise UserError(f"k must be at most the size of the largest class, {sizes.max()}, got {k}")
    fold = np.empty(n, np.int64)
    start = 0
    for c, size in enumerate(sizes):
        dealt = np.bincount(np.arange(start, start + size) % k, minlength=k)  # (k,)
        folds = np.repeat(np.arange(k), dealt)  # (size,)
        fold[classes == c] = folds if rng is None else rng.permutation(folds)
        start += size
    return _parts(fold, k)


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """A model's Evaluation on each fold."""

    folds: list

    def summary(self, name="bits_per_byte"):
        """The mean of a number over the folds, and its standard deviation (of a sample)."""
        values = [getattr(fold, name) for fold in self.folds]
        if None in values:
            raise UserError(f"{name} is not known: the tokenizer is lossy")
        return float(np.mean(values)), float(np.std(values, ddof=1))

    def __str__(self):
        lossy = any(fold.bits_per_byte is None for fold in self.folds)
        mean, deviation = self.summary("perplexity" if lossy else "bits_per_byte")
        name = "perplexity" if lossy else "bits per byte"
        return f"{mean:.3f} ± {deviation:.3f} {name} over {len(self.folds)} folds"


def cross_validate(make, documents, k, *, rng=None, labels=None, progress=None):
    """Train and evaluate a model k times, each time on other documents.

    Parameters
    ----------
    make : function of a list of documents -> a model, as `evaluate` takes it; it must train the
        tokenizer too, or what the tokenizer learnt from the test documents helps the model
    documents : list of Document
    k : int, the folds
    rng : numpy.random.Generator that shuffles the documents; None: they stay in order
    labels : each document's class, to have all classes in every fold; None: no classes
    progress : function of (folds done, k)

    Returns
    -------
    CrossValidation

    Raises
    ------
    UserError
        for k out of range, or a fold without text.
    """
    if labels is None:
        parts = k_fold(len(documents), k, rng=rng)
    else:
        labels = listed("labels", labels)
        if len(labels) != len(documents):
            raise ValueError(f"labels must have length {len(documents)}, got {len(labels)}")
        parts = stratified_k_fold(labels, k, rng=rng)
    found = []
    for train, test in parts:
        model = make([documents[i] for i in train])
        found.append(evaluate(model, [documents[i] for i in test]))
        if progress is not None:
            progress(len(found), k)
    return CrossValidation(found)


def _parts(fold, k):
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _check(n, k, rng):
    holds = is_whole(k) and 2 <= k <= n
    require("k", k, holds, f"a whole number from 2 to the {n} things to fold")
    holds = rng is None or hasattr(rng, "permutation")
    require("rng", rng, holds, "None or a numpy.random.Generator")

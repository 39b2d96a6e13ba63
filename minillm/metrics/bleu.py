"""BLEU (Papineni, Roukos, Ward & Zhu 2002, "BLEU: a Method for Automatic Evaluation of Machine
Translation", ACL), with the words, smoothings and signature of sacrebleu (Post 2018).

The formula in plain Python is in bleu_simple.py, the tokenizers are in bleu_tokenize.py.
"""

import dataclasses
import math

import numpy as np

from minillm.errors import UserError, require, whole
from minillm.metrics.bleu_tokenize import TOKENIZERS, tokenize_all
from minillm.metrics.checks import is_number, named
from minillm.metrics.ngram_overlap import shared_ngrams
from minillm.metrics.segments import (
    check_segments,
    chunks,
    flatten,
    references_named,
    signature,
)

__all__ = ["BLEU", "SMOOTHINGS", "bleu", "bleu_from_statistics", "bleu_statistics"]

SMOOTHINGS = {"none": None, "floor": 0.1, "add-k": 1, "exp": None}  # and their default value


@dataclasses.dataclass(frozen=True)
class BLEU:
    """How much of the hypotheses stands in their references.

    Attributes
    ----------
    score : float, 0 to 100
    precisions : tuple of floats, 0 to 100, smoothed, for each length of n-gram
    counts, totals : tuples of ints, the matched n-grams and all of the hypotheses', not smoothed
    brevity_penalty : float, 0 to 1
    hypothesis_length, reference_length : int, tokens
    signature : str, what the score was made with
    """

    score: float
    precisions: tuple[float, ...]
    counts: tuple[int, ...]
    totals: tuple[int, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int
    signature: str = ""

    def __str__(self):
        name = f"BLEU|{self.signature}" if self.signature else "BLEU"
        precisions = "/".join(f"{p:.1f}" for p in self.precisions)
        share = self.hypothesis_length / self.reference_length if self.reference_length else 0
        return (
            f"{name} = {self.score:.2f} {precisions} (BP = {self.brevity_penalty:.3f} "
            f"ratio = {share:.3f} hyp_len = {self.hypothesis_length} "
            f"ref_len = {self.reference_length})"
        )


def bleu(
    hypotheses,
    references,
    *,
    tokenizer="13a",
    lowercase=False,
    smoothing="exp",
    smoothing_value=None,
    max_order=4,
    effective_order=False,
    progress=None,
):
    """BLEU of a corpus; of a sentence, given one hypothesis (better with effective_order=True).

    Equation: BLEU = 100 BP exp(mean_n log p_n), BP = min(1, exp(1 - reference / hypothesis length))

    p_n is the share of the hypotheses' n-grams, n = 1 to max_order, that stand in a reference of
    theirs, none counted more often than it stands there. The length of a segment's reference is
    that nearest to its hypothesis's, the shorter of two that are equally near.

    Parameters
    ----------
    hypotheses : S str
    references : S entries, each a str or several
    tokenizer : "13a", "intl", "zh", "char" or "none"
    smoothing : what is taken for a p_n of 0: "none", "floor" (smoothing_value of a match, 0.1),
        "exp" (half a match, a quarter for the next, ...), or "add-k", which adds smoothing_value
        (1) to the matches and all n-grams of each n > 1 (Chen & Cherry 2014, methods 1, 3 and 2)
    effective_order : leave out the n for which the hypotheses have no n-gram
    progress : function of (segments done, segments)

    Raises
    ------
    ValueError
        for what is no text.
    UserError
        for other numbers of hypotheses and references, or a name or value that there is not.
    """
    hypotheses, references = check_segments(hypotheses, references)
    value = _smoothing_value(smoothing, smoothing_value)
    statistics = bleu_statistics(
        hypotheses,
        references,
        tokenizer=tokenizer,
        lowercase=lowercase,
        max_order=max_order,
        progress=progress,
    )
    result = bleu_from_statistics(
        statistics.sum(0),
        smoothing=smoothing,
        smoothing_value=value,
        effective_order=effective_order,
    )
    order = {} if max_order == 4 else {"order": max_order}  # sacrebleu's does not tell
    words = signature(
        nrefs=references_named(references),
        case="lc" if lowercase else "mixed",
        eff=effective_order,
        tok=tokenizer,
        smooth=smoothing + ("" if value is None else f"[{value:.2f}]"),
        **order,
    )
    return dataclasses.replace(result, signature=words)


def bleu_statistics(
    hypotheses, references, *, tokenizer="13a", lowercase=False, max_order=4, progress=None
):
    """What BLEU sums over segments: for resampling, and for BLEU segment by segment.

    Parameters and errors as for `bleu`.

    Returns
    -------
    statistics : int64 (S, 2 + 2 max_order): the hypothesis's length, the reference's, the matched
        n-grams of each length, and the hypothesis's
    """
    max_order = whole("max_order", max_order, 1)
    named("BLEU tokenizer", tokenizer, TOKENIZERS)
    hypotheses, references = check_segments(hypotheses, references)
    return np.concatenate(
        [
            _statistics(*chunk, tokenizer=tokenizer, lowercase=lowercase, order=max_order)
            for chunk in chunks(hypotheses, references, progress)
        ]
    )


def _statistics(hypotheses, references, *, tokenizer, lowercase, order):
    texts, segment, side = flatten(hypotheses, references)
    ids, lengths = tokenize_all(texts, tokenizer, lowercase=lowercase)
    length = lengths[side == 0]  # (S,), of the hypotheses
    statistics = np.zeros((len(length), 2 + 2 * order), np.int64)
    statistics[:, 0] = length
    statistics[:, 1] = _nearest(length, lengths, segment, side)
    for n, (owner, counts) in enumerate(shared_ngrams(ids, lengths, segment, side, order)):
        matched = np.minimum(counts[0], counts[1:].max(0))
        statistics[:, 2 + n] = np.bincount(owner, matched, minlength=len(length))
    statistics[:, 2 + order :] = np.maximum(length[:, None] - np.arange(order), 0)
    return statistics


def _nearest(length, lengths, segment, side):
    """The length of each segment's reference that is nearest to its hypothesis's, (S,)."""
    far = int(lengths.max()) + 1
    keys = np.full((len(length), int(side.max())), far * far)  # those that are missing come last
    which = side > 0
    away = np.abs(lengths[which] - length[segment[which]])
    keys[segment[which], side[which] - 1] = away * far + lengths[which]
    return keys.min(1) % far


def bleu_from_statistics(
    statistics, *, smoothing="exp", smoothing_value=None, effective_order=False
):
    """BLEU from the statistics of a segment, or their sum over some, (2 + 2 max_order,).

    Raises
    ------
    UserError
        for a smoothing that there is not, or a value that it does not take.
    """
    value = _smoothing_value(smoothing, smoothing_value)
    length, reference, *rest = (int(x) for x in statistics)
    order = len(rest) // 2
    counts, totals = tuple(rest[:order]), tuple(rest[order:])
    penalty = 1.0
    if length < reference:
        penalty = math.exp(1 - reference / length) if length else 0.0
    precisions, used = [0.0] * order, order
    if any(counts):
        precisions, used = _precisions(counts, totals, smoothing, value)
    used = used if effective_order else order
    score = 0.0
    if all(p > 0 for p in precisions[:used]):
        score = penalty * math.exp(sum(map(math.log, precisions[:used])) / used)
    return BLEU(score, tuple(precisions), counts, totals, penalty, length, reference)


def _precisions(counts, totals, smoothing, value):
    """The smoothed precision of each length, and the last length of which there are n-grams."""
    precisions, used, halves = [0.0] * len(counts), 0, 1
    for n, (count, total) in enumerate(zip(counts, totals, strict=True)):
        if smoothing == "add-k" and n > 0:
            count, total = count + value, total + value
        if total == 0:
            break
        used = n + 1
        if count == 0 and smoothing == "exp":
            halves *= 2
            count = 1 / halves
        elif count == 0 and smoothing == "floor":
            count = value
        precisions[n] = 100 * count / total
    return precisions, used


def _smoothing_value(smoothing, value):
    """The value that a smoothing goes by, its default for None."""
    default = SMOOTHINGS[named("BLEU smoothing", smoothing, SMOOTHINGS)]
    if value is None:
        return default
    if default is None:
        raise UserError(f"smoothing {smoothing!r} takes no value, got {value!r}")
    holds = is_number(value) and 0 <= value < math.inf
    require("smoothing_value", value, holds, "a number of at least 0")
    return float(value)

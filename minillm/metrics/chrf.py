"""chrF (Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", WMT) and chrF++
(Popović 2017, "chrF++: words helping character n-grams", WMT), as sacrebleu computes them.

The formula in plain Python is in chrf_simple.py.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError, require, whole
from minillm.metrics.checks import is_number
from minillm.metrics.ngram_overlap import matches, number_words
from minillm.metrics.segments import (
    check_segments,
    chunks,
    flatten,
    ratio,
    references_named,
    signature,
)

__all__ = ["ChrF", "chrf", "chrf_from_statistics", "chrf_statistics", "split_punctuation"]

PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
EPSILON = 1e-16  # stands for a precision or recall of nothing, where it is smoothed


@dataclasses.dataclass(frozen=True)
class ChrF:
    """score : float, 0 to 100; name : str, chrF2 or chrF2++; signature : str, how it was made."""

    score: float
    name: str
    signature: str

    def __str__(self):
        return f"{self.name}|{self.signature} = {self.score:.2f}"


def chrf(
    hypotheses,
    references,
    *,
    char_order=6,
    word_order=0,
    beta=2,
    lowercase=False,
    whitespace=False,
    eps_smoothing=False,
    progress=None,
):
    """The F-score of the n-grams of characters that hypotheses share with their references.

    Equation: chrF = 100 (1 + beta^2) P R / (beta^2 P + R)

    P and R are means over the lengths of n-grams, 1 to char_order of characters and 1 to word_order
    of words, of the shares of the hypotheses' (P) and of the references' (R) n-grams that the other
    has too. Of several references, a segment counts with that of the best F-score.

    Parameters
    ----------
    hypotheses : S str
    references : S entries, each a str or several
    char_order, word_order : longest n-grams; word_order=2 makes it chrF++
    beta : how many times as much recall weighs as precision
    whitespace : count the white space too
    eps_smoothing : the mean of each length's F instead, 1e-16 standing for a share of nothing, as
        chrF++.py, Moses and NLTK; else lengths of which either side has no n-gram are left out
    progress : function of (segments done, segments)

    Raises
    ------
    ValueError
        for what is no text.
    UserError
        for other numbers of hypotheses and references, or an order or beta out of range.
    """
    hypotheses, references = check_segments(hypotheses, references)
    statistics = chrf_statistics(
        hypotheses,
        references,
        char_order=char_order,
        word_order=word_order,
        beta=beta,
        lowercase=lowercase,
        whitespace=whitespace,
        eps_smoothing=eps_smoothing,
        progress=progress,
    )
    words = signature(
        nrefs=references_named(references),
        case="lc" if lowercase else "mixed",
        eff=not eps_smoothing,
        nc=str(char_order),
        nw=str(word_order),
        space=whitespace,
    )
    score = chrf_from_statistics(statistics.sum(0), beta=beta, eps_smoothing=eps_smoothing)
    return ChrF(float(score), f"chrF{beta:g}" + "+" * word_order, words)


def chrf_statistics(
    hypotheses,
    references,
    *,
    char_order=6,
    word_order=0,
    beta=2,
    lowercase=False,
    whitespace=False,
    eps_smoothing=False,
    progress=None,
):
    """What chrF sums over segments: for resampling, and for chrF segment by segment.

    Parameters and errors as for `chrf`.

    Returns
    -------
    statistics : int64 (S, char_order + word_order, 3): the hypothesis's n-grams of each length,
        those of its best reference, and those that both share
    """
    char_order, word_order = whole("char_order", char_order, 0), whole("word_order", word_order, 0)
    if char_order + word_order == 0:
        raise UserError("char_order and word_order must not both be 0")
    hypotheses, references = check_segments(hypotheses, references)
    parts = []
    for some, of_some in chunks(hypotheses, references, progress):
        each = _statistics(some, of_some, char_order, word_order, lowercase, whitespace)
        f = chrf_from_statistics(each, beta=beta, eps_smoothing=eps_smoothing)  # (S, R)
        numbers = np.array(list(map(len, of_some)))
        best = np.where(np.arange(f.shape[1]) < numbers[:, None], f, -1).argmax(1)  # (S,)
        parts.append(each[np.arange(len(best)), best])
    return np.concatenate(parts)


def _statistics(hypotheses, references, char_order, word_order, lowercase, whitespace):
    """As `chrf_statistics`, against each reference, (S, R, orders, 3)."""
    texts, segment, side = flatten(hypotheses, references)
    if lowercase:
        texts = [text.lower() for text in texts]
    parts = []
    if char_order:
        ids, lengths = _characters(texts, whitespace)
        parts.append(_overlap(ids, lengths, segment, side, char_order))
    if word_order:
        rows = [text.split() for text in texts]
        ids, lengths = number_words(rows, lambda words: list(map(split_punctuation, words)))
        parts.append(_overlap(ids, lengths, segment, side, word_order))
    return np.concatenate(parts, axis=2)


def _overlap(ids, lengths, segment, side, order):
    """n-grams of the hypothesis, of each reference, and shared, (S, R, order, 3)."""
    sizes = np.zeros((segment[-1] + 1, side.max() + 1), np.int64)
    sizes[segment, side] = lengths
    totals = np.maximum(sizes[:, :, None] - np.arange(order), 0)  # (S, 1 + R, order)
    statistics = np.zeros((len(sizes), sizes.shape[1] - 1, order, 3), np.int64)
    statistics[..., 1] = totals[:, 1:]
    # n-grams of a length that the reference has none of do not count
    statistics[..., 0] = np.where(totals[:, 1:] > 0, totals[:, :1], 0)
    statistics[..., 2] = matches(ids, lengths, segment, side, order)
    return statistics


def _characters(texts, whitespace):
    """The code points of all texts, and how many each has."""
    if not whitespace:
        texts = ["".join(text.split()) for text in texts]
    # a lone surrogate is a character like any other here
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    return codes.astype(np.int64), np.array(list(map(len, texts)), np.int64)


def split_punctuation(word):
    """The word and the ASCII punctuation mark at its end, or else at its start."""
    if len(word) > 1 and word[-1] in PUNCTUATION:
        return [word[:-1], word[-1]]
    if len(word) > 1 and word[0] in PUNCTUATION:
        return [word[0], word[1:]]
    return [word]


def chrf_from_statistics(statistics, *, beta=2, eps_smoothing=False):
    """chrF from the statistics (..., orders, 3) of segments, or their sum; 0 to 100, (...).

    Raises
    ------
    UserError
        for a beta out of range.
    """
    holds = is_number(beta) and 0 < float(beta) < 1e100  # its square must be a float
    require("beta", beta, holds, "a number above 0 and below 1e100")
    factor = float(beta) ** 2
    hypothesis, reference, shared = np.moveaxis(np.asarray(statistics), -1, 0)
    p, r = ratio(shared, hypothesis), ratio(shared, reference)  # (..., orders)
    if eps_smoothing:
        p, r = np.where(hypothesis > 0, p, EPSILON), np.where(reference > 0, r, EPSILON)
        both = factor * p + r
        f = np.where(both > 0, ratio((1 + factor) * p * r, both), EPSILON)
        return 100 * _sum(f) / f.shape[-1]
    counted = (hypothesis > 0) & (reference > 0)
    p, r = (ratio(_sum(np.where(counted, x, 0)), counted.sum(-1)) for x in (p, r))
    return 100 * ratio((1 + factor) * p * r, factor * p + r)


def _sum(values):
    """Sums over the last axis, one value after the other: of references that are equally good but
    for the last bit, the one is best that is so in sacrebleu, which sums in this order.
    """
    return np.add.accumulate(values, -1)[..., -1]

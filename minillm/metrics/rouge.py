"""ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", Text Summarization
Branches Out), as the package rouge_score computes it.

The formulas in plain Python are in rouge_simple.py, the words in rouge_tokenize.py. Left out:
ROUGE-W and ROUGE-S; splitting a summary into sentences, which are its lines here; intervals, for
which see the bootstrap.
"""

import collections
import dataclasses
import itertools
import re

import numpy as np

from minillm.errors import UserError
from minillm.metrics.checks import listed, named
from minillm.metrics.lcs import lcs_length, lcs_places, masks_of
from minillm.metrics.ngram_overlap import matches
from minillm.metrics.rouge_tokenize import ROUGE_TOKENIZERS, number_lines
from minillm.metrics.segments import (
    check_segments,
    chunks,
    flatten,
    ratio,
    references_named,
    signature,
)

__all__ = ["Rouge", "rouge", "rouge_statistics"]

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclasses.dataclass(frozen=True)
class Rouge:
    """Means over the segments of one kind of ROUGE.

    Attributes
    ----------
    name : str, such as rouge1
    precision, recall, f : floats, 0 to 1; f is the mean of the segments' F, not that of the means
    signature : str, what the score was made with
    """

    name: str
    precision: float
    recall: float
    f: float
    signature: str = ""

    def __str__(self):
        name = f"{self.name}|{self.signature}" if self.signature else self.name
        return f"{name} = {self.f:.4f} (P = {self.precision:.4f} R = {self.recall:.4f})"


def rouge(hypotheses, references, *, types=TYPES, tokenizer="rouge", stem=False, progress=None):
    """What summaries share with their references, by n-grams and by common subsequences.

    Equation: P = shared / hypothesis, R = shared / reference, F = 2 P R / (P + R)

    rougeN counts n-grams, none more often than either side has it. rougeL takes the words of a
    longest common subsequence of both texts. rougeLsum takes, for each line of the reference, the
    union of the longest subsequences that it shares with the hypothesis's lines, no word more often
    than either side has it. Of several references, a segment counts with that of the best F, which
    each type chooses by itself.

    Parameters
    ----------
    hypotheses : S str
    references : S entries, each a str or several
    types : names: rouge1, rouge2, ... of any length, rougeL, rougeLsum
    tokenizer : "rouge", or "unicode" for text in any script
    stem : take English endings off, by NLTK's Porter stemmer
    progress : function of (segments done, segments)

    Returns
    -------
    scores : dict, type -> Rouge

    Raises
    ------
    ValueError
        for what is no text, or types that are no list.
    UserError
        for other numbers of hypotheses and references, a type or tokenizer that there is not, or
        where NLTK is missing.
    """
    hypotheses, references = check_segments(hypotheses, references)
    found = rouge_statistics(
        hypotheses, references, types=types, tokenizer=tokenizer, stem=stem, progress=progress
    )
    words = signature(nrefs=references_named(references), tok=tokenizer, stem=stem)
    return {
        name: Rouge(name, float(p), float(r), float(f), words)
        for name, (p, r, f) in ((name, values.mean(0)) for name, values in found.items())
    }


def rouge_statistics(
    hypotheses, references, *, types=TYPES, tokenizer="rouge", stem=False, progress=None
):
    """Precision, recall and F of each segment, for resampling: dict, type -> float64 (S, 3).

    Parameters and errors as for `rouge`.
    """
    types = [types] if isinstance(types, str) else listed("types", types)
    for name in types:
        if not isinstance(name, str) or not re.fullmatch("rouge([1-9][0-9]*|L|Lsum)", name):
            raise UserError(f"no ROUGE {name!r}; there are: rouge1, rouge2, ..., rougeL, rougeLsum")
    named("ROUGE tokenizer", tokenizer, ROUGE_TOKENIZERS)
    hypotheses, references = check_segments(hypotheses, references)
    parts = [
        _scores(*chunk, types=types, tokenizer=tokenizer, stem=stem)
        for chunk in chunks(hypotheses, references, progress)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in types}


def _scores(hypotheses, references, *, types, tokenizer, stem):
    """As `rouge_statistics`, of some segments."""
    texts, segment, side = flatten(hypotheses, references)
    ids, in_lines, lines = number_lines(texts, tokenizer, stem=stem)
    ends = np.cumsum(np.concatenate([[0], in_lines]))[np.cumsum([0, *lines])]
    lengths = np.diff(ends)  # (T,), words of each text
    sizes = np.full((segment[-1] + 1, side.max() + 1), -1)  # words by side, -1: no such reference
    sizes[segment, side] = lengths
    longest = max((int(name[5:]) for name in types if name[5:].isdigit()), default=0)
    grams = matches(ids, lengths, segment, side, longest)  # (S, R, longest)
    result = {}
    for name in types:
        if name[5:].isdigit():
            n = int(name[5:])
            shared, totals = grams[:, :, n - 1], np.maximum(sizes - (n - 1), 0)
        else:
            by_line = in_lines if name == "rougeLsum" else None
            shared, totals = _subsequences(ids, lengths, lines, by_line, segment, side), sizes
        result[name] = _best(shared, totals, sizes[:, 1:] >= 0)
    return result


def _subsequences(ids, lengths, lines, in_lines, segment, side):
    """Words of each hypothesis in a common subsequence with each of its references, (S, R)."""
    words = iter(ids.tolist())
    if in_lines is None:
        texts = [[list(itertools.islice(words, size))] for size in lengths.tolist()]
    else:
        sizes = iter(in_lines.tolist())
        texts = [
            [list(itertools.islice(words, next(sizes))) for _ in range(count)] for count in lines
        ]
    shared = np.zeros((segment[-1] + 1, side.max()), np.int64)
    for text, s, r in zip(texts, segment.tolist(), side.tolist(), strict=True):
        if r == 0:
            hypothesis = text
            masks = [(masks_of(line), len(line)) for line in text]
        elif len(text) == len(hypothesis) == 1:
            shared[s, r - 1] = lcs_length(text[0], *masks[0])
        else:
            shared[s, r - 1] = _union(hypothesis, masks, text)
    return shared


def _union(hypothesis, masks, reference):
    """Words of the reference's lines in the unions of subsequences that they share.

    hypothesis, reference : lists of lines; masks : (masks, length) of the hypothesis's lines
    """
    left = collections.Counter(itertools.chain.from_iterable(hypothesis))
    hits = 0
    for line in reference:
        places = {place for masked in masks for place in lcs_places(line, *masked)}
        for place in places:
            if left[line[place]] > 0:
                left[line[place]] -= 1
                hits += 1
    return hits


def _best(shared, totals, there):
    """Precision, recall and F of each segment with the reference of the best F, (S, 3)."""
    p, r = ratio(shared, totals[:, :1]), ratio(shared, totals[:, 1:])  # (S, R)
    f = ratio(2 * p * r, p + r)
    best = np.where(there, f, -1).argmax(1)
    return np.stack([p, r, f], 2)[np.arange(len(best)), best]

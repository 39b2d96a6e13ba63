"""BLEU as its formula says, one segment after the other: the specification of bleu.py.

Papineni, Roukos, Ward & Zhu 2002, sections 2.1 to 2.3; without smoothing.
"""

import math
from collections import Counter

__all__ = ["bleu_simple", "segment_statistics"]


def ngrams(tokens, n):
    """How often each n-gram stands in a list of tokens."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def segment_statistics(hypothesis, references, max_order=4):
    """[hypothesis length, reference length, matches of each n, n-grams of each n] of one segment.

    hypothesis : list of tokens; references : lists of tokens
    """
    size = len(hypothesis)
    nearest = min((abs(len(r) - size), len(r)) for r in references)[1]
    matches, totals = [], []
    for n in range(1, max_order + 1):
        found = ngrams(hypothesis, n)
        allowed: Counter = Counter()
        for reference in references:
            allowed |= ngrams(reference, n)  # the largest count in any reference
        matches.append((found & allowed).total())  # clipped: the smaller count of both
        totals.append(found.total())
    return [size, nearest, *matches, *totals]


def bleu_simple(hypotheses, references, max_order=4):
    """100 BP exp(mean log p_n) of tokenized hypotheses, each with its tokenized references."""
    rows = [
        segment_statistics(hypothesis, several, max_order)
        for hypothesis, several in zip(hypotheses, references, strict=True)
    ]
    size, nearest, *rest = (sum(column) for column in zip(*rows, strict=True))
    matches, totals = rest[:max_order], rest[max_order:]
    if not all(matches):
        return 0.0
    penalty = min(1.0, math.exp(1 - nearest / size))
    mean = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / max_order
    return 100 * penalty * math.exp(mean)

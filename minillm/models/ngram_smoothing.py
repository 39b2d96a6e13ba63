"""The smoothings that share out a context's probability: one function each, with its formula.

Notation: c(cw) is how often token w followed context c in the text, c(c.) its sum over w, N1+(c.)
the number of different tokens that followed c; c' is c without its first token; V is the size of
the vocabulary. Below the unigrams, whose context is empty, lies the uniform distribution 1/V.

Two conventions hold for all that are distributions. A context after which nothing was seen tells
nothing: the shorter one answers in its place (for add-k and Good-Turing, which know no shorter
context, every token is then equally likely, which is what their formulas say). And n-grams that are
pruned leave what they would have had to what is mixed in from the shorter context.

A function takes one length's counts (`Length`), the model's settings and a list to which it adds a
note where it falls back, and returns by its form:

- INTERPOLATED: alpha (M,) and gamma (contexts,) of p(w | c) = alpha(cw) + gamma(c) p(w | c')
- BACK_OFF: p (M,) of what was seen; the rest of 1 goes to the unseen tokens as p(w | c') does
- SCORE: s (M,) of what was seen, and the factor for the unseen, which need not sum to anything

Kneser-Ney's functions are in ngram_kneser_ney.py, Good-Turing's and Katz's in
ngram_good_turing.py, Jelinek-Mercer's weights in ngram_jelinek_mercer.py.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from minillm.models.ngram_good_turing import good_turing, katz
from minillm.models.ngram_kneser_ney import absolute_alpha, kneser_ney, modified_kneser_ney, one_d
from minillm.models.ngram_length import Length

__all__ = ["BACK_OFF", "INTERPOLATED", "SCORE", "SMOOTHINGS", "Length", "Smoothing"]

INTERPOLATED, BACK_OFF, SCORE = "interpolated", "back-off", "score"


def maximum_likelihood(length, config, notes):
    """What was seen, as often as it was seen; all else is impossible.

    Equation: p(w | c) = c(cw) / c(c.)
    """
    total = length.sum(length.raw)  # (contexts,)
    return length.share(length.raw, total), np.where(total > 0, 0.0, 1.0)


def add_k(length, config, notes):
    """Pretend that every token was seen k times more (Laplace for k = 1, Lidstone 1920).

    Equation: p(w | c) = (c(cw) + k) / (c(c.) + k V)

    Written as a mixture of the maximum likelihood and the uniform distribution, which it is.
    """
    extra = config.value("k") * length.vocab_size
    total = length.sum(length.raw) + extra
    return length.share(length.raw, total), extra / total


def witten_bell(length, config, notes):
    """A new token is as likely as new tokens were so far (Witten & Bell 1991, method C).

    Equation: p(w | c) = (c(cw) + N1+(c.) p(w | c')) / (c(c.) + N1+(c.))

    The recursion to the shorter context is Chen & Goodman 1999, eq. 17.
    """
    types = length.sum(length.raw > 0)
    total = length.sum(length.raw) + types
    return length.share(length.raw, total), length.rest(types, total)


def absolute_discounting(length, config, notes):
    """Take the same D from every count, and interpolate (Ney, Essen & Kneser 1994).

    Equation: p(w | c) = max(c(cw) - D, 0) / c(c.) + D N1+(c.) / c(c.) p(w | c')

    D = n1 / (n1 + 2 n2), from the numbers of n-grams of this length seen once and twice.
    """
    return absolute_alpha(length, length.raw, one_d(length, length.raw, config, notes))


def jelinek_mercer(length, config, notes):
    """Mix each length's maximum likelihood with the shorter one (Jelinek & Mercer 1980).

    Equation: p(w | c) = l c(cw) / c(c.) + (1 - l) p(w | c')

    The weight l belongs to the length and to the bucket of c(c.), see ngram_jelinek_mercer.py.
    """
    total = length.sum(length.raw)
    weight = np.array(config.weights[length.n - 1])[bucket_of(total, config.value("buckets"))]
    weight[total == 0] = 0.0
    return weight[length.context] * length.share(length.raw, total), 1 - weight


def bucket_of(total, buckets):
    """By how often a context was seen: once, 2 or 3 times, 4 to 7, ...; the last has no end."""
    return np.minimum(np.log2(np.maximum(total, 1)).astype(np.int64), buckets - 1)


def stupid_back_off(length, config, notes):
    """Relative frequencies, and a fixed factor for what was not seen (Brants et al. 2007, eq. 5).

    Equation: s(w | c) = c(cw) / c(c.) where cw was seen, else 0.4 s(w | c')

    A score, not a distribution: over w it sums to more or less than 1. The factor is due for a
    context that was never seen, too.
    """
    total = length.sum(length.raw)
    return length.share(length.raw, total), np.full(length.contexts, config.value("factor"))


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """A smoothing and how its numbers are to be used.

    Attributes
    ----------
    function : (Length, NGramConfig, notes) -> the two or one of its form
    form : INTERPOLATED, BACK_OFF or SCORE
    alone : bool, the uniform distribution takes the shorter context's place
    """

    function: Callable
    form: str = INTERPOLATED
    alone: bool = False


SMOOTHINGS = {
    "mle": Smoothing(maximum_likelihood),
    "add-k": Smoothing(add_k, alone=True),
    "good-turing": Smoothing(good_turing, BACK_OFF, alone=True),
    "katz": Smoothing(katz, BACK_OFF),
    "jelinek-mercer": Smoothing(jelinek_mercer),
    "witten-bell": Smoothing(witten_bell),
    "absolute-discounting": Smoothing(absolute_discounting),
    "kneser-ney": Smoothing(kneser_ney),
    "modified-kneser-ney": Smoothing(modified_kneser_ney),
    "stupid-backoff": Smoothing(stupid_back_off, SCORE),
}

"""Kneser-Ney smoothing: shorter contexts ask in how many places, not how often.

    p(w | c) = (a(cw) - D(a(cw))) / a(c.) + gamma(c) p(w | c')
    gamma(c) = sum over w of D(a(cw)), / a(c.)

with c' the context c without its first token, a(c.) the sum of a(cw) over w, and the uniform
distribution 1/V below the unigrams. The counts a are those of the text for the longest n-grams; for
shorter ones they are the number of different tokens seen before them, because a shorter n-gram
matters most where the longer one was not seen. One at a document's start, which nothing can
precede, keeps its count.

Sources: Kneser & Ney 1995 with one discount D, here interpolated; three discounts, for counts of 1,
2 and more, are Chen & Goodman's modification (1999, sec. 3).

KenLM (Heafield et al. 2013) computes the same but for one detail of its adjust_counts.cc: of each
length but the longest, the n-gram that it happens to read last enters the counts of counts with how
often it occurs rather than with a. In a large text the discounts then differ in the fourth digit;
`compatibility="kenlm"` does as KenLM does, also where a text is too small for the formula.

Left out: back-off rather than interpolated Kneser-Ney.
"""

import numpy as np

__all__ = [
    "FALLBACK",
    "adjusted_counts",
    "as_kenlm",
    "discounts",
    "kneser_ney",
    "modified_kneser_ney",
]

FALLBACK = (0.5, 1.0, 1.5)  # as KenLM's --discount_fallback


def adjusted_counts(counts):
    """The a of the formula for one length's Counts, int64 (M,)."""
    return np.where(counts.left > 0, counts.left, counts.raw)


def kneser_ney(length, config, notes):
    """Interpolated Kneser-Ney with one discount (Kneser & Ney 1995; Chen & Goodman 1999, eq. 21).

    Equation: p(w | c) = max(a(cw) - D, 0) / a(c.) + D N1+(c.) / a(c.) p(w | c')

    D = n1 / (n1 + 2 n2), from the numbers of n-grams of this length whose a is 1 and 2.
    """
    a = adjusted_counts(length)
    return absolute_alpha(length, a, one_d(length, a, config, notes))


def modified_kneser_ney(length, config, notes):
    """Interpolated Kneser-Ney with a discount each for counts of 1, 2, and 3 or more.

    Equation: p(w | c) = (a(cw) - D(a(cw))) / a(c.) + gamma(c) p(w | c')
    """
    a = adjusted_counts(length)
    many = length.many(a, 4)
    if config.compatibility == "kenlm" and length.last is not None:
        many = as_kenlm(many, int(a[length.last]), int(length.raw[length.last]))
    d, fell_back = discounts(many, kenlm=config.compatibility == "kenlm")
    if fell_back:
        notes.append(f"length {length.n}: counts too few for discounts, {d} taken")
    discount = np.array([0.0, *d])[np.minimum(a, 3)]  # (M,)
    total = length.sum(a)  # (contexts,)
    freed = length.sum(discount)  # (contexts,)
    return length.share(a - discount, total), length.rest(freed, total)


def discounts(many, *, kenlm=False):
    """D1, D2 and D3+ of one length from its counts of counts (Chen & Goodman 1999, eq. 26).

    With n_i = many[i] the number of n-grams that have count i and Y = n1 / (n1 + 2 n2):
    D1 = 1 - 2Y n2/n1, D2 = 2 - 3Y n3/n2, D3+ = 3 - 4Y n4/n3. Where one of n1 to n4 is zero, or a
    discount comes out as zero or less, the text is too small for the formula: all three of this
    length are then FALLBACK. KenLM does without an n4 (D3+ is 3), and with a discount of zero.

    Returns
    -------
    (D1, D2, D3+) : floats, 0 < Di <= i
    fell_back : bool
    """
    _, n1, n2, n3, n4 = many
    if not (n1 and n2 and n3 and (n4 or kenlm)):
        return FALLBACK, True
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    lowest = min(found)
    return (found, False) if lowest > 0 or (kenlm and lowest == 0) else (FALLBACK, True)


def one_d(length, counts, config, notes):
    """The one discount D: what was set, or else n1 / (n1 + 2 n2) (Ney, Essen & Kneser 1994).

    Where no n-gram has a count of 1, or none one of 2, that is 0 or 1, which no unseen or no rare
    n-gram would survive: FALLBACK's first is taken.
    """
    if config.discount is not None:
        return config.discount
    _, n1, n2 = length.many(counts, 2)
    if n1 and n2:
        return n1 / (n1 + 2 * n2)
    notes.append(f"length {length.n}: counts too few for a discount, {FALLBACK[0]} taken")
    return FALLBACK[0]


def absolute_alpha(length, counts, d):
    """alpha and gamma where the same d is taken from every count, to be interpolated."""
    total = length.sum(counts)
    freed = d * length.sum(counts > 0)
    return length.share(np.maximum(counts - d, 0), total), length.rest(freed, total)


def as_kenlm(many, a, raw):
    """Counts of counts with one n-gram's a exchanged for its raw count."""
    many = list(many)
    for count, step in ((a, -1), (raw, 1)):
        if count < len(many):
            many[count] += step
    return many

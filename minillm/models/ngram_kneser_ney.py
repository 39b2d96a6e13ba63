"""Interpolated modified Kneser-Ney (Chen & Goodman 1999, sec. 3; Kneser & Ney 1995).

    p(w | c) = (a(cw) - D(a(cw))) / a(c.) + gamma(c) p(w | c without its first token)
    gamma(c) = (D1 N1(c.) + D2 N2(c.) + D3+ N3+(c.)) / a(c.)

with a(c.) the sum of a(cw) over w, Ni(c.) the number of w with a(cw) = i, and the uniform
distribution 1/V below the unigrams. The counts a are those of the text for the longest n-grams; for
shorter ones they are the number of different tokens seen before them, because a shorter n-gram
matters most where the longer one was not seen. One at a document's start, which nothing can
precede, keeps its count.

Left out: other smoothing methods; the quirks of particular tools.
"""

import numpy as np

__all__ = ["FALLBACK", "adjusted_counts", "discounts", "interpolation"]

FALLBACK = (0.5, 1.0, 1.5)  # as KenLM's --discount_fallback


def adjusted_counts(counts):
    """The a of the formula for one length's Counts, int64 (M,)."""
    return np.where(counts.left > 0, counts.left, counts.raw)


def discounts(a):
    """D1, D2 and D3+ of one length from its counts of counts (Chen & Goodman 1999, eq. 26).

    With n_i the number of n-grams that have count i and Y = n1 / (n1 + 2 n2):
    D1 = 1 - 2Y n2/n1, D2 = 2 - 3Y n3/n2, D3+ = 3 - 4Y n4/n3. Where one of n1 to n4 is zero, or a
    discount comes out as zero or less, the text is too small for the formula: all three of this
    length are then FALLBACK.

    Returns
    -------
    (D1, D2, D3+) : floats, 0 < Di <= i
    fell_back : bool
    """
    n1, n2, n3, n4 = (int(n) for n in np.bincount(np.minimum(a, 5), minlength=6)[1:5])
    if not (n1 and n2 and n3 and n4):
        return FALLBACK, True
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return (found, False) if min(found) > 0 else (FALLBACK, True)


def interpolation(a, context, n_contexts, d):
    """The two numbers of the formula: what a seen n-gram adds, and what its context passes down.

    Parameters
    ----------
    a : int (M,), counts; those of a context sum to a(c.)
    context : int (M,), the context of each n-gram
    n_contexts : int
    d : (D1, D2, D3+)

    Returns
    -------
    alpha : (M,), (a - D(a)) / a(c.)
    gamma : (n_contexts,), 1 for a context that nothing was seen to follow
    """
    discount = np.array([0.0, *d])[np.minimum(a, 3)]  # (M,)
    total = np.bincount(context, a, n_contexts)  # (n_contexts,)
    freed = np.bincount(context, discount, n_contexts)  # (n_contexts,)
    gamma = np.divide(freed, total, out=np.ones(n_contexts), where=total > 0)
    return (a - discount) / total[context], gamma

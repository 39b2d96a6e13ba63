"""Good-Turing: how much of the next text is new is how much of this one was seen once.

    r* = (r + 1) n_{r+1} / n_r

is the count that an n-gram seen r times should have been given, n_r being the number of n-grams
seen r times (Good 1953). What it takes from the seen ones is left for the unseen.

Left out: confidence bounds on r* other than Gale & Sampson's switch.
"""

import numpy as np

__all__ = ["good_turing", "katz", "katz_discounts", "simple_good_turing"]

SIGNIFICANT = 1.65  # standard deviations, Gale & Sampson's choice


def good_turing(length, config, notes):
    """Simple Good-Turing counts; what they leave is shared equally among the unseen tokens.

    Equation: p(w | c) = r*(c(cw)) / c(c.), r > 0; the rest of 1 over the unseen tokens otherwise

    Of length 1, with its one context, the seen tokens are scaled so that exactly n1 / N is left, as
    in Gale & Sampson 1995. Longer ones take r* as it is, and a context keeps what it leaves.
    """
    present = np.unique(length.raw[length.raw > 0])
    many = np.bincount(np.searchsorted(present, length.raw[length.raw > 0]))
    stars = simple_good_turing(present, many)
    if stars is None:
        notes.append(f"length {length.n}: counts too few for Good-Turing, r - 0.5 taken")
        stars = present - 0.5
    star = np.zeros(len(length.raw))
    star[length.raw > 0] = stars[np.searchsorted(present, length.raw[length.raw > 0])]
    total = length.sum(length.raw)
    if length.n == 1 and present[0] == 1 and many[0] < total[0]:
        star *= (total[0] - many[0]) / star.sum()
    return length.share(star, total)


def simple_good_turing(present, many):
    """r* for each count that occurs, by Gale & Sampson 1995, "Good-Turing without tears", sec. 5.

    n_r is too noisy where r is large and few n-grams have it. Z_r = 2 n_r / (t - q), with q and t
    the counts that occur just below and above r, spreads it over the gap, and a straight line
    through log Z_r over log r is the smooth S(r). r* is Turing's own formula from r = 1 up, as long
    as it differs significantly from (r + 1) S(r + 1) / S(r), and that from there on.

    Parameters
    ----------
    present : int (R,), the counts that occur, rising
    many : int (R,), how many n-grams have each

    Returns
    -------
    r* : (R,), 0 < r* < r; None where the line needs more counts, or is so flat that it would not
        take anything from them (slope above -1)
    """
    if len(present) < 2:
        return None
    r, n = present.astype(float), many.astype(float)
    below = np.append(0, r[:-1])
    above = np.append(r[1:], 2 * r[-1] - below[-1])
    slope, _ = np.polyfit(np.log(r), np.log(2 * n / (above - below)), 1)
    if slope >= -1:
        return None
    smooth = r * (1 + 1 / r) ** (slope + 1)  # (r + 1) S(r + 1) / S(r), whatever S's height
    more = np.zeros(len(r))
    more[:-1] = np.where(r[1:] == r[:-1] + 1, n[1:], 0)  # n_{r+1}
    turing = (r + 1) * more / n
    width = SIGNIFICANT * np.sqrt((r + 1) ** 2 * more / n**2 * (1 + more / n))
    # Once the line is taken it is taken for good; also where Turing would not lower a count.
    keep = (more > 0) & (np.abs(turing - smooth) > width) & (turing < r)
    return np.where(np.logical_and.accumulate(keep), turing, smooth)


def katz(length, config, notes):
    """Discount small counts by Good-Turing; give what is freed to the shorter context (Katz 1987).

    Equation: p(w | c) = d_r c(cw) / c(c.) for r = c(cw) > 0, else bow(c) p(w | c')

    bow(c) makes the sum 1. A context whose counts are all above the cutoff leaves nothing for what
    was not seen; its total is then taken one larger, as SRILM does.
    """
    largest = config.value("cutoff")
    there = min(largest, int(length.raw.max(initial=0)))  # no count above it needs a discount
    d, cutoff = katz_discounts(length.many(length.raw, there + 1))
    if cutoff < largest:
        instead = f"a cutoff of {cutoff}" if cutoff else "0.5 from each"
        notes.append(
            f"length {length.n}: counts too few for Katz's discounts up to {largest}, "
            f"{instead} taken"
        )
    kept = np.append(d, 1.0)[np.minimum(length.raw, there + 1)] * length.raw  # (M,)
    total = length.sum(length.raw)
    return length.share(kept, np.where(length.sum(kept) < total, total, total + 1))


def katz_discounts(many):
    """d_0 = 0 to d_k (Katz 1987, with Good-Turing's r*, such that what they free is n_1).

    With n_r = many[r] for r up to k + 1, and A = (k + 1) n_{k+1} / n_1:
    d_r = (r* / r - A) / (1 - A). Where one of the n_r is zero or a d_r is not between 0 and 1, the
    text is too small for it: a smaller k is tried, down to 2 (for k = 1 it says d_1 = 0), and in
    the end 0.5 is taken from each count up to k.

    Returns
    -------
    d : float (k + 1,), 1 above the cutoff that worked
    cutoff : int, that one; 0 if none did
    """
    most = len(many) - 2
    no_gap = int(np.cumprod(np.array(many[1:]) > 0).sum())  # from n_1 on none is zero so far
    for k in range(min(most, no_gap - 1), 1, -1):
        n, r = np.array(many[: k + 2], float), np.arange(1, k + 1)
        if (a := (k + 1) * n[k + 1] / n[1]) >= 1:
            continue
        star = (r + 1) * n[2:] / n[1:-1]
        d = (star / r - a) / (1 - a)
        if np.all((d > 0) & (d < 1)):
            return np.concatenate([[0], d, np.ones(most - k)]), k
    r = np.arange(1, most + 1)
    return np.append(0, (r - 0.5) / r), 0

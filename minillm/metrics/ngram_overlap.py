"""The n-grams that hypotheses share with their references, counted for all segments at once.

What BLEU, chrF and ROUGE-N have in common. Tokens become numbers, an n-gram the pair of the number
of its first n - 1 tokens and its last token, and equal pairs meet by sorting. An n-gram can only be
shared if both (n - 1)-grams in it are, so that each length looks at what the one before has left.
"""

import itertools

import numpy as np

__all__ = ["matches", "number_words", "shared_ngrams"]


class Numbers(dict):
    """Gives each new key the next number."""

    def __missing__(self, key):
        self[key] = number = len(self)
        return number


def number_words(rows, cut=None):
    """The tokens of rows of words, as numbers: equal tokens get equal ones.

    Parameters
    ----------
    rows : list of R lists of words
    cut : function of a list of distinct words that gives a list of tokens for each, so that each is
        cut once; None where the words are the tokens

    Returns
    -------
    ids : int64 (N,), the rows' tokens one row after the other
    lengths : int64 (R,), how many are each row's
    """
    numbers = Numbers()
    words = itertools.chain.from_iterable(rows)
    ids = np.array(list(map(numbers.__getitem__, words)), np.int64)
    lengths = np.array(list(map(len, rows)), np.int64)
    if cut is None:
        return ids, lengths
    tokens = Numbers()
    pieces = cut(list(numbers))
    flat = np.array(
        list(map(tokens.__getitem__, itertools.chain.from_iterable(pieces))), dtype=np.int64
    )
    sizes = np.array(list(map(len, pieces)), np.int64)  # tokens of each distinct word
    starts = np.cumsum(sizes) - sizes  # where they begin in `flat`
    ends = np.concatenate([[0], np.cumsum(sizes[ids])])  # (words + 1,)
    where = np.repeat(starts[ids] - ends[:-1], sizes[ids]) + np.arange(ends[-1])
    return flat[where], np.diff(ends[np.concatenate([[0], np.cumsum(lengths)])])


def shared_ngrams(ids, lengths, segment, side, order):
    """Count, for each length, the n-grams of each segment that a hypothesis may share.

    Parameters
    ----------
    ids : int64 (N,), the tokens of all texts, one after the other
    lengths, segment, side : int64 (T,), each text's number of tokens, its segment, and its side: 0
        for the hypothesis, r for its r-th reference
    order : the longest n-gram

    Yields
    ------
    segment : int64 (M,), of each distinct n-gram of a segment
    counts : int64 (sides, M), how often it stands in the hypothesis and in each reference; n-grams
        that cannot be shared may be left out
    """
    sides, vocabulary = int(side.max()) + 1, int(ids.max(initial=0)) + 1
    owner, side = np.repeat(segment, lengths), np.repeat(side, lengths)  # (N,)
    end = np.repeat(np.cumsum(lengths), lengths)  # (N,), where the text of each token ends
    start = np.arange(len(ids))  # of the n-grams that are looked at
    if len(start) == 0:
        return
    prefix = owner  # (N,), the number of the n-gram that starts here; at first that of its segment
    for n in range(1, order + 1):
        number, groups = _ranks(prefix[start] * vocabulary + ids[start + n - 1])
        cells = np.bincount(side[start] * groups + number, minlength=sides * groups)
        counts = cells.reshape(sides, groups)
        where = np.empty(groups, np.int64)
        where[number] = owner[start]
        yield where, counts
        if n == order:
            return
        shared = (counts[0] > 0) & (counts[1:].max(0) > 0)
        prefix = np.full(len(ids) + 1, -1)
        kept = shared[number]
        prefix[start[kept]] = number[kept]
        start = np.flatnonzero(prefix[:-1] >= 0)
        start = start[(start + n < end[start]) & (prefix[start + 1] >= 0)]
        if len(start) == 0:
            return


def matches(ids, lengths, segment, side, order):
    """The n-grams that each hypothesis shares with each of its references, int64 (S, R, order).

    One that stands on both sides several times counts as often as on the side that has it less
    often. Parameters as for `shared_ngrams`.
    """
    shared = np.zeros((int(segment[-1]) + 1, int(side.max()), order), np.int64)
    for n, (owner, counts) in enumerate(shared_ngrams(ids, lengths, segment, side, order)):
        for r, of_reference in enumerate(counts[1:]):
            both = np.minimum(counts[0], of_reference)
            shared[:, r, n] = np.bincount(owner, both, minlength=len(shared))
    return shared


def _ranks(keys):
    """Equal keys get equal numbers, from 0 on in the order of the keys; and how many there are.

    A key with its position in the low bits sorts as a plain number, several times faster than by
    `argsort`; where both have no room in 63 bits, NumPy's `unique` does it.
    """
    bits = len(keys).bit_length()
    if int(keys.max()) >> (63 - bits):
        distinct, numbers = np.unique(keys, return_inverse=True)
        return numbers, len(distinct)
    packed = np.sort(keys << bits | np.arange(len(keys)))
    ordered = packed >> bits
    steps = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
    numbers = np.empty(len(keys), np.int64)
    numbers[packed & ((1 << bits) - 1)] = steps
    return numbers, int(steps[-1]) + 1

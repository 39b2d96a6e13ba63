"""One length of n-grams in back-off form, ready to be asked.

    p(w | c) = p(cw)                                          where cw was seen
               backoff(c) p(w | c without its first token)    elsewhere

Every smoothing of ngram_smoothing.py can be written so; the interpolated ones have their lower
share added in p(cw) already.
"""

import functools

import numpy as np

from minillm.models.ngram_best import Best
from minillm.models.ngram_memory import check_memory
from minillm.models.ngram_table import HashTable

__all__ = ["Level", "suffixes"]

ASK = 10  # looking a key up by bisection costs as much as a table of so many
ROWS_AT_ONCE = 1 << 22  # numbers in a block of whole distributions


class Level:
    """The n-grams of length k. Their contexts are the n-grams of length k - 1.

    Parameters
    ----------
    keys : int64 (M,), sorted: context * vocab_size + last token
    p : (M,), the probability of each n-gram's last token after its context, final
    backoff : (contexts,), what the shorter context's probability of a token not seen after a
        context is multiplied by; 1 for a context that nothing was seen to follow
    vocab_size : int
    below : Level of length k - 1; None: the uniform distribution 1/V is below
    suffix, first : see below; None: they are found from the keys

    Attributes
    ----------
    length : int, how many levels this one and those below are
    first : int (contexts + 1,), where each context's n-grams begin
    token : int (M,), the last token of each n-gram
    suffix : int (M,), the n-gram of length k - 1 that is left without the first token; zeros where
        nothing is below
    best : Best, the most probable token after each context

    Raises
    ------
    ValueError
        if the suffix of an n-gram is not among those below.
    """

    def __init__(self, keys, p, backoff, vocab_size, below=None, suffix=None, first=None):
        self.keys, self.p, self.backoff, self.vocab_size = keys, p, backoff, vocab_size
        self.below, self.length = below, 1 if below is None else below.length + 1
        if first is None:
            many = np.bincount(keys // vocab_size, minlength=len(backoff))
            first = np.append(0, np.cumsum(many))
        self.first = first
        self.suffix = suffixes(keys, vocab_size, below) if suffix is None else suffix
        self._asked, self._table = 0, None

    @functools.cached_property
    def token(self):
        return self.keys % self.vocab_size

    def find(self, context, token):
        """The ids of the n-grams made of contexts and tokens, both (n,); -1 where not seen.

        A context may be negative, one that was not seen itself.

        Raises
        ------
        UserError
            before a table is made that might not fit in memory.
        """
        keys = context * np.int64(self.vocab_size) + token  # of a negative context, negative too
        self._asked += len(keys)
        if self._table is None and self._asked * ASK < len(self.keys):
            place = np.searchsorted(self.keys, keys)
            return np.where(self.keys.take(place, mode="clip") == keys, place, -1)
        if self._table is None:
            needed = HashTable.needed(len(self.keys))
            check_memory(needed, f"the table of {len(self.keys)} n-grams")
            self._table = HashTable(self.keys)
        return self._table.find(keys)

    def distribution(self, shorter, context):
        """The distribution (V,) after a context from the one after the shorter context, (V,)."""
        mine = slice(self.first[context], self.first[context + 1])
        p = self.backoff[context] * shorter
        p[self.token[mine]] = self.p[mine]
        return p

    def rows(self, contexts):
        """The distributions after contexts (n,), none negative: (n, V)."""
        if self.below is None:
            p = np.full((len(contexts), self.vocab_size), 1 / self.vocab_size)
        else:
            shorter, which = np.unique(self.below.suffix[contexts], return_inverse=True)
            p = self.below.rows(shorter)[which]
        p *= self.backoff[contexts, None]
        start, many = self.first[contexts], self.first[contexts + 1] - self.first[contexts]  # (n,)
        row = np.repeat(np.arange(len(contexts)), many)  # one entry an n-gram
        gram = np.arange(len(row)) + np.repeat(start - (np.cumsum(many) - many), many)
        p[row, self.token[gram]] = self.p[gram]
        return p

    @functools.cached_property
    def best(self):
        return Best(self, None if self.below is None else self.below.best)


def suffixes(keys, vocab_size, below):
    """Each n-gram without its first token, as an n-gram of the Level below, (M,).

    Raises
    ------
    ValueError
        if one is not there.
    """
    if below is None:
        return np.zeros_like(keys)
    context, token = np.divmod(keys, vocab_size)
    suffix = below.find(below.suffix[context].astype(np.int64), token)
    if suffix.min(initial=0) < 0:
        raise ValueError("an n-gram without its first token is missing one length below")
    return suffix

"""One length of n-grams in back-off form, ready to be asked.

    p(w | c) = p(cw)                                          where cw was seen
               backoff(c) p(w | c without its first token)    elsewhere

Every smoothing of ngram_smoothing.py can be written so; the interpolated ones have their lower
share added in p(cw) already.
"""

import functools

import numpy as np

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
    first : int (contexts + 1,), where each context's n-grams begin
    token : int (M,), the last token of each n-gram
    suffix : int (M,), the n-gram of length k - 1 that is left without the first token; zeros where
        nothing is below
    best, best_p : (contexts,), see `best_of` and `_decide`

    Raises
    ------
    ValueError
        if the suffix of an n-gram is not among those below.
    """

    def __init__(self, keys, p, backoff, vocab_size, below=None, suffix=None, first=None):
        self.keys, self.p, self.backoff, self.vocab_size = keys, p, backoff, vocab_size
        self.below = below
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
        """
        keys = context * np.int64(self.vocab_size) + token  # of a negative context, negative too
        self._asked += len(keys)
        if self._table is None and self._asked * ASK < len(self.keys):
            place = np.searchsorted(self.keys, keys)
            return np.where(self.keys.take(place, mode="clip") == keys, place, -1)
        if self._table is None:
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
            p = self.below.rows(self.below.suffix[contexts])
        p *= self.backoff[contexts, None]
        start, many = self.first[contexts], self.first[contexts + 1] - self.first[contexts]  # (n,)
        row = np.repeat(np.arange(len(contexts)), many)  # one entry an n-gram
        gram = np.arange(len(row)) + np.repeat(start - (np.cumsum(many) - many), many)
        p[row, self.token[gram]] = self.p[gram]
        return p

    def best_of(self, contexts):
        """The most probable token after each of the contexts (n,), the lowest id of equals."""
        todo = np.unique(contexts[self.best[contexts] < 0])
        if len(todo) and self.below is not None:
            self.below.best_of(self.below.suffix[todo])
            self.best[todo], self.best_p[todo] = self._decide(todo)
            todo = todo[self.best[todo] < 0]
        size = max(1, ROWS_AT_ONCE // self.vocab_size)
        for part in (todo[i : i + size] for i in range(0, len(todo), size)):
            rows = self.rows(part)  # (n, V)
            self.best[part], self.best_p[part] = rows.argmax(1), rows.max(1)
        return self.best[contexts]

    @property
    def best(self):
        return self._bests[0]

    @property
    def best_p(self):
        return self._bests[1]

    @functools.cached_property
    def _bests(self):
        return self._decide(np.arange(len(self.backoff)))

    @functools.cached_property
    def _seen_bests(self):
        """The best of the tokens seen after each context and its p; of none 0 and -1."""
        many = np.diff(self.first)  # (contexts,)
        context = np.repeat(np.arange(len(many)), many)  # (M,)
        some = np.flatnonzero(many)
        top = np.full(len(many), -1.0)
        if len(some):
            top[some] = np.maximum.reduceat(self.p, self.first[some])
        best = np.zeros(len(many), np.int64)
        is_top = np.flatnonzero(self.p == top[context])[::-1]  # backwards: the lowest id is last
        best[context[is_top]] = self.token[is_top]
        return best, top

    def _decide(self, contexts):
        """The best token after contexts (n,), where not all of the vocabulary needs a look.

        No unseen token has more than backoff times the best p of the shorter context. A seen one
        with more is the best. Else it is the shorter context's best, if that was not seen here; if
        it was, only the whole distribution tells. (An interpolated p is at least its lower share,
        so that this happens only where a method really backs off.)

        Returns the tokens, -1 where they are still to be found, and their p, or a bound of it.
        """
        best, top = (x[contexts] for x in self._seen_bests)  # (n,)
        if self.below is None:
            rival, lower_p = np.zeros_like(best), 1 / self.vocab_size
        else:
            shorter = self.below.suffix[contexts]
            rival, lower_p = self.below.best[shorter], self.below.best_p[shorter]
        bound = self.backoff[contexts] * lower_p  # (n,)
        bound[self.first[contexts + 1] - self.first[contexts] == self.vocab_size] = -1  # all seen
        highest = np.maximum(top, bound)
        doubt = np.flatnonzero(bound >= top)
        gram = self.find(contexts[doubt], np.maximum(rival[doubt], 0))
        wins = np.where(bound > top, rival, np.minimum(rival, best))[doubt]
        # Where the rival was seen and is a best one here: what ties with it unseen has a higher id.
        kept = self.p.take(gram, mode="clip") == highest[doubt] if len(self.p) else gram > 0
        seen = np.where(kept, best[doubt], -1)
        best[doubt] = np.where(rival[doubt] < 0, -1, np.where(gram < 0, wins, seen))
        return best, highest


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

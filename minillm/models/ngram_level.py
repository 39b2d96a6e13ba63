"""One length of n-grams, ready to be asked: what each adds to its last token's probability.

Any smoothing that can be written as p(w | c) = alpha(cw) + gamma(c) p(w | c without its first
token), alpha being zero for what was not seen, fits in here.
"""

import numpy as np

__all__ = ["Level"]


class Level:
    """The n-grams of length k. Their contexts are the n-grams of length k - 1.

    Parameters
    ----------
    keys : int64 (M,), sorted: context * vocab_size + last token
    alpha : (M,)
    gamma : (contexts,)
    vocab_size : int
    below : Level of length k - 1; None for k = 1, whose one context is empty and which has the
        uniform distribution below it

    Attributes
    ----------
    first : int (contexts + 1,), where each context's n-grams begin
    suffix : int (M,), the n-gram of length k - 1 that is left without the first token
    p : (M,), the probability of each n-gram's last token after its context
    best : int (contexts,), the most probable token after each context, the lowest id of equals
    best_p : (contexts,), its probability

    Raises
    ------
    ValueError
        if the suffix of an n-gram is not among those below.
    """

    def __init__(self, keys, alpha, gamma, vocab_size, below=None):
        self.keys, self.alpha, self.gamma, self.vocab_size = keys, alpha, gamma, vocab_size
        context, self.token = np.divmod(keys, vocab_size)  # (M,)
        self.first = np.searchsorted(context, np.arange(len(gamma) + 1))  # (contexts + 1,)
        if below is None:
            self.suffix = np.zeros_like(keys)
            lower_p, lower_best, lower_best_p = 1 / vocab_size, 0, 1 / vocab_size
        else:
            shorter = below.suffix  # (contexts,), each context without its first token
            self.suffix = below.find(shorter[context], self.token)  # (M,)
            if self.suffix.min(initial=0) < 0:
                raise ValueError("an n-gram without its first token is missing one length below")
            lower_p = below.p[self.suffix]  # (M,)
            lower_best, lower_best_p = below.best[shorter], below.best_p[shorter]  # (contexts,)
        self.p = alpha + gamma[context] * lower_p  # (M,)
        self._find_best(context, lower_best, gamma * lower_best_p)

    def _find_best(self, context, lower_best, lower_p):
        """Nothing unseen after a context beats the best token of the shorter one: compare with it.

        That token may have been seen here too; then its n-gram's p is larger than `lower_p`.
        """
        top = np.full(len(self.gamma), -1.0)
        seen = np.flatnonzero(np.diff(self.first))  # contexts with any n-gram
        if len(seen):
            top[seen] = np.maximum.reduceat(self.p, self.first[seen])
        best = np.zeros(len(self.gamma), np.int64)
        is_top = np.flatnonzero(self.p == top[context])[::-1]  # backwards: the lowest id is last
        best[context[is_top]] = self.token[is_top]
        lower_wins = (lower_p > top) | ((lower_p == top) & (lower_best < best))
        self.best = np.where(lower_wins, lower_best, best)
        self.best_p = np.maximum(lower_p, top)

    def find(self, context, token):
        """The ids of the n-grams made of contexts and tokens, both (n,); -1 where not seen.

        A context may be -1, one that was not seen itself.
        """
        if len(self.keys) == 0:
            return np.full_like(context, -1)
        key = context * self.vocab_size + token
        place = np.searchsorted(self.keys, key)
        found = (
            self.keys.take(place, mode="clip") == key
        )  # a context of -1 makes no key: they are >= 0
        return np.where(found, place, -1)

    def add_to(self, p, context):
        """Make of the distribution p (V,) after the shorter context the one after `context`."""
        mine = slice(self.first[context], self.first[context + 1])
        p *= self.gamma[context]
        p[self.token[mine]] += self.alpha[mine]

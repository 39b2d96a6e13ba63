"""The most probable token after a context, without looking at the whole vocabulary.

Of the tokens seen after a context c, the best is a maximum over its n-grams. Of the unseen,
p(w | c) is a multiple of p(w | c'), with c' the context c without its first token. So where the
best token after c' was not seen after c, it is the best of the unseen. Where it was seen, and p
fell, one has to look further:

    unseen(c) = backoff(c) max(the best of those seen after c' but not after c, unseen(c'))

for all that was seen after c was seen after c' too. The first of the two is found by going down the
tokens seen after c', best first, until one was not seen after c: a step or two, mostly. That is
never needed for interpolated smoothings, whose p is at least its lower share.
"""

import functools

import numpy as np

__all__ = ["Best"]


class Best:
    """The best token after each context of a Level, found when it is asked for.

    Parameters
    ----------
    level : Level
    below : Best of the level below; None where the uniform distribution is
    """

    def __init__(self, level, below=None):
        self.level, self.below = level, below
        self.many = np.diff(level.first)  # (contexts,)
        self._token, self._p = np.full(len(self.many), -1), np.empty(len(self.many))

    def of(self, contexts):
        """The most probable token after contexts (n,), the lowest id of equals, and its p."""
        todo = np.unique(contexts[self._token[contexts] < 0])
        if len(todo):
            self._token[todo], self._p[todo] = self._find(todo)
        return self._token[contexts], self._p[contexts]

    def _find(self, contexts):
        level = self.level
        best, top = self._seen(contexts)
        if self.below is None:
            rival, bound = np.zeros_like(best), np.full(len(best), 1 / level.vocab_size)
        else:
            rival, bound = self.below.of(level.below.suffix[contexts])
        bound = bound * level.backoff[contexts]  # no unseen token has more
        doubt = np.flatnonzero((bound >= top) & (self.many[contexts] < level.vocab_size))
        gram = level.find(contexts[doubt], rival[doubt])
        unseen = doubt[gram < 0]
        best[unseen], top[unseen] = _better(best[unseen], top[unseen], rival[unseen], bound[unseen])
        # A rival that was seen and is a best one here stays so: what ties with it has a higher id.
        fell = doubt[gram >= 0]
        fell = fell[level.p[gram[gram >= 0]] < np.maximum(top, bound)[fell]]
        if len(fell):
            best[fell], top[fell] = _better(best[fell], top[fell], *self._unseen(contexts[fell]))
        return best, top

    def _seen(self, contexts):
        """The best of the tokens seen after contexts (n,) and its p; of none 0 and -1."""
        level, many = self.level, self.many[contexts]
        best, top = np.zeros(len(contexts), np.int64), np.full(len(contexts), -1.0)
        some = np.flatnonzero(many)
        if len(some) == 0:
            return best, top
        many = many[some]
        start = np.cumsum(many) - many
        gram = np.arange(many.sum()) + np.repeat(level.first[contexts[some]] - start, many)
        p = level.p[gram]
        top[some] = np.maximum.reduceat(p, start)
        is_top = np.flatnonzero(p == np.repeat(top[some], many))[::-1]
        best[np.repeat(some, many)[is_top]] = level.token[gram[is_top]]  # the lowest id is last
        return best, top

    def _unseen(self, contexts):
        """The best token not seen after contexts (n,) and its p; of none 0 and -1."""
        level = self.level
        if self.below is None:  # they are all alike: the lowest id
            size = np.full(len(contexts), level.vocab_size)
            token = self._go_down(contexts, lambda going, rank: np.full(len(going), rank), size)
            p = np.where(token < 0, -1.0, level.backoff[contexts] / level.vocab_size)
            return np.maximum(token, 0), p
        below, ranked = level.below, self.below.ranked
        shorter, which = np.unique(below.suffix[contexts], return_inverse=True)
        token, p = (x[which] for x in self.below._unseen(shorter))
        begin, size = below.first[shorter][which], self.below.many[shorter][which]
        rank = self._go_down(
            contexts, lambda going, rank: below.token[ranked[begin[going] + rank]], size
        )
        here = np.flatnonzero(rank >= 0)
        gram = ranked[begin[here] + rank[here]]
        token[here], p[here] = _better(token[here], p[here], below.token[gram], below.p[gram])
        return token, np.where(p < 0, -1.0, level.backoff[contexts] * p)

    def _go_down(self, contexts, candidate, size):
        """The first rank below size (n,) whose candidate was not seen after a context; -1: none."""
        rank, step = np.full(len(contexts), -1), 0
        going = np.flatnonzero(size > 0)
        while len(going):
            seen = self.level.find(contexts[going], candidate(going, step)) >= 0
            rank[going[~seen]] = step
            step += 1
            going = going[seen & (size[going] > step)]
        return rank

    @functools.cached_property
    def ranked(self):
        """The n-grams of each context, the most probable first, of equals the lowest id."""
        context = np.repeat(np.arange(len(self.many)), self.many)
        return np.lexsort((-self.level.p, context))


def _better(token, p, other, other_p):
    """Of two tokens the one with the higher p, or the lower id; all (n,)."""
    other_wins = (other_p > p) | ((other_p == p) & (other < token))
    return np.where(other_wins, other, token), np.maximum(p, other_p)

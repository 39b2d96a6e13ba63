"""The lattices of very many words at once: expected counts and best paths, vectorised.

What unigram_lattice.py does for a text, place by place, is done here for all words side by side:
first all edges that end at the first character of any word, then all that end at the second.
"""

import numpy as np

__all__ = ["Lattices", "digamma"]


class Lattices:
    """The lattices of W words of n(w) characters, whose sum(n + 1) nodes are numbered through.

    Parameters
    ----------
    lengths : int64 (W,), n
    start, stop : int64 (E,), the nodes between which each edge stands
    piece : int64 (E,), what stands there
    """

    def __init__(self, lengths, start, stop, piece):
        self.last = np.cumsum(lengths + 1) - 1
        self.first = self.last - lengths
        self.n_nodes = int(lengths.sum()) + len(lengths)
        depth = np.arange(self.n_nodes) - np.repeat(self.first, lengths + 1)
        order = np.lexsort((start, stop, depth[stop]))
        self._forward = _Side(start[order], stop[order], piece[order], depth)
        order = np.lexsort((stop, start, -depth[start]))
        self._backward = _Side(stop[order], start[order], piece[order], -depth)

    def keep(self, pieces):
        """Drop the edges of the pieces that are False in `pieces`."""
        self._forward = self._forward.kept(pieces)
        self._backward = self._backward.kept(pieces)

    def expect(self, scores, weights):
        """How often each piece is expected in the words, and the words' log probability.

        Equation: expected(x) = sum over words, over edges of x, of weight * p(edge | word)

        Parameters
        ----------
        scores : (V,), log probabilities
        weights : (W,), how often each word comes

        Returns
        -------
        expected : float64 (V,)
        nats : float, sum(weights * log p(word))
        """
        before = self._forward.sums(scores, self.first, self.n_nodes)
        after = self._backward.sums(scores, self.last, self.n_nodes)
        side = self._forward
        whole = before[self.last]
        word = np.repeat(np.arange(len(self.last)), self.last - self.first + 1)[side.to]
        p = np.exp(before[side.origin] + scores[side.piece] + after[side.to] - whole[word])
        expected = np.bincount(side.piece, p * weights[word], len(scores))
        return expected, float((weights * whole).sum())

    def best(self, scores):
        """The best path of each word.

        Returns
        -------
        total : float64 (W,), its log probability; -inf for a word without a path
        word, piece : int64 (T,), the pieces on the paths, in no order within a word
        """
        best, edge = self._forward.maxima(scores, self.first, self.n_nodes)
        total = best[self.last]
        word = np.flatnonzero(np.isfinite(total))
        node, words, pieces = self.last[word], [word[:0]], [word[:0]]
        while len(word):
            words.append(word)
            pieces.append(self._forward.piece[edge[node]])
            node = self._forward.origin[edge[node]]
            left = node > self.first[word]
            node, word = node[left], word[left]
        return total, np.concatenate(words), np.concatenate(pieces)


class _Side:
    """Edges in the order in which sums go through them: by the depth of the node they lead to."""

    def __init__(self, origin, to, piece, depth):
        self.origin, self.to, self.piece, self._depth = origin, to, piece, depth
        self._group = np.flatnonzero(np.diff(to, prepend=-1))  # where the edges to a node begin
        self._node = to[self._group]
        self._size = np.diff(self._group, append=len(to))
        level = np.flatnonzero(np.diff(depth[self._node], prepend=np.iinfo(np.int64).min))
        self._levels = [*level.tolist(), len(self._group)]

    def kept(self, pieces):
        stays = pieces[self.piece]
        return _Side(self.origin[stays], self.to[stays], self.piece[stays], self._depth)

    def _parts(self):
        """For each depth: its nodes, its edges, where each node's begin there, and how many."""
        for a, b in zip(self._levels, self._levels[1:], strict=False):
            edges = slice(self._group[a], self._group[b] if b < len(self._group) else len(self.to))
            yield self._node[a:b], edges, self._group[a:b] - edges.start, self._size[a:b]

    def sums(self, scores, roots, n_nodes):
        """For each node the log of the summed probability of all paths from a root to it."""
        values = np.full(n_nodes, -np.inf)
        values[roots] = 0
        score = scores[self.piece]
        for node, edges, group, size in self._parts():
            x = values[self.origin[edges]] + score[edges]
            top = np.maximum.reduceat(x, group)
            values[node] = top + np.log(np.add.reduceat(np.exp(x - np.repeat(top, size)), group))
        return values

    def maxima(self, scores, roots, n_nodes):
        """As `sums`, of the best path alone, and the edge by which it comes."""
        values, best = np.full(n_nodes, -np.inf), np.zeros(n_nodes, np.int64)
        values[roots] = 0
        score = scores[self.piece]
        for node, edges, group, size in self._parts():
            x = values[self.origin[edges]] + score[edges]
            top = np.maximum.reduceat(x, group)
            values[node] = top
            at = np.where(x == np.repeat(top, size), np.arange(len(x)), len(x))
            best[node] = edges.start + np.minimum.reduceat(at, group)
        return values, best


def digamma(x):
    """The derivative of log gamma at x > 0, float64 of the shape of x.

    Equation: psi(x) = psi(x + 1) - 1 / x, and for x >= 8 the asymptotic series
    log x - 1 / (2 x) - 1 / (12 x^2) + 1 / (120 x^4) - 1 / (252 x^6) + 1 / (240 x^8)
    """
    x = np.array(x, np.float64)
    below = np.zeros_like(x)
    for _ in range(8):
        small = x < 8
        below -= np.where(small, 1 / x, 0)
        x = x + small
    square = 1 / x**2
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return below + np.log(x) - 1 / (2 * x) - series

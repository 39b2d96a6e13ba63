"""All ways to cut a text into pieces, and what is asked of them (Kudo 2018, arXiv:1804.10959).

A unigram model gives each piece a probability, and a way to cut a text the product of its pieces'.
The ways are the paths through a lattice: its nodes are the places between characters, its edges the
pieces that stand in the text. This is the short specification, a text at a time: what encodes fast
is unigram_encode.py, what trains is unigram_em.py.
"""

import heapq
import math

import numpy as np

__all__ = ["Lattice", "draw", "prefixes"]


def prefixes(pieces):
    """A dict from each beginning of a piece to the piece's id, or -1 where it is only a beginning.

    Looking up longer and longer parts of a text in it can stop at the first that is missing.
    """
    found = {}
    for piece, i in pieces.items():
        found[piece] = i
        for stop in range(len(piece) - 1, 0, -1):
            if piece[:stop] in found:
                break
            found[piece[:stop]] = pieces.get(piece[:stop], -1)
    return found


class Lattice:
    """The lattice of one text.

    Parameters
    ----------
    text : str of N characters
    known : dict as `prefixes` gives it
    scores : the log probability of each piece
    unknown : (id, score) of a character that is no piece itself

    Attributes
    ----------
    edges : for each place 0 .. N, those that end there, the longest first: (start, id, score)
    """

    def __init__(self, text, known, scores, unknown):
        self.edges: list = [[] for _ in range(len(text) + 1)]
        for start in range(len(text)):
            single = False
            for stop in range(start + 1, len(text) + 1):
                i = known.get(text[start:stop])
                if i is None:
                    break
                if i >= 0:
                    self.edges[stop].append((start, i, float(scores[i])))
                    single |= stop == start + 1
            if not single:
                self.edges[start + 1].append((start, *unknown))

    def viterbi(self):
        """The most probable path, as a list of ids, and its log probability.

        Equation: best(t) = max over edges (s, t, score) of best(s) + score
        """
        best, came = [0.0], [(0, -1, 0.0)]
        for edges in self.edges[1:]:
            totals = [best[start] + score for start, _, score in edges]
            best.append(max(totals))
            came.append(edges[totals.index(best[-1])])  # of equals the longest piece
        ids, place = [], len(best) - 1
        while place > 0:
            place, i, _ = came[place]
            ids.append(i)
        return ids[::-1], best[-1]

    def forward(self, alpha=1.0):
        """For each place the log of the summed probability ** alpha of all paths that lead there.

        Equation: f(t) = log sum over edges (s, t, score) of exp(f(s) + alpha * score)
        """
        sums = [0.0]
        for edges in self.edges[1:]:
            sums.append(_log_sum([sums[start] + alpha * score for start, _, score in edges]))
        return sums

    def backward(self):
        """As `forward`, of all paths from each place to the end."""
        terms: list = [[] for _ in self.edges]
        sums = [0.0] * len(self.edges)
        for stop in range(len(self.edges) - 1, 0, -1):
            if stop < len(self.edges) - 1:
                sums[stop] = _log_sum(terms[stop])
            for start, _, score in self.edges[stop]:
                terms[start].append(score + sums[stop])
        if terms[0]:
            sums[0] = _log_sum(terms[0])
        return sums

    def marginals(self):
        """The probability of each edge given the text: {(start, stop, id): p}.

        Equation: p = exp(f(start) + score + b(stop) - f(N))
        """
        before, after = self.forward(), self.backward()
        return {
            (start, stop, i): math.exp(before[start] + score + after[stop] - before[-1])
            for stop, edges in enumerate(self.edges)
            for start, i, score in edges
        }

    def sample(self, rng, alpha=1.0):
        """A path drawn with probability proportional to its own ** alpha, a list of ids.

        Forward filtering, backward sampling (Kudo 2018, section 3.3, over all paths).
        """
        before = self.forward(alpha)
        ids, place = [], len(self.edges) - 1
        while place > 0:
            edges = self.edges[place]
            logits = [before[start] + alpha * score for start, _, score in edges]
            place, i, _ = edges[draw(rng, logits)]
            ids.append(i)
        return ids[::-1]

    def nbest(self, n):
        """The n most probable paths, the best first: a list of (ids, log probability)."""
        best: list = [[(0.0, None, None, None)]]  # at each place (score, start, which there, id)
        for edges in self.edges[1:]:
            best.append(
                heapq.nlargest(
                    n,
                    (
                        (total + score, start, k, i)
                        for start, i, score in edges
                        for k, (total, *_) in enumerate(best[start])
                    ),
                    key=lambda path: path[0],
                )
            )
        found = []
        for score, start, k, i in best[-1]:
            ids: list = []
            while start is not None:
                ids.append(i)
                _, start, k, i = best[start][k]
            found.append((ids[::-1], score))
        return found


def draw(rng, logits):
    """An index with probability proportional to exp(logits)."""
    weights = np.exp(np.asarray(logits) - max(logits))
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _log_sum(logits):
    top = max(logits)
    return top + math.log(sum(math.exp(x - top) for x in logits))

"""Skip-gram's examples: pairs of words that stand near one another, and noise to tell them from
(Mikolov et al. 2013, arXiv:1310.4546, sections 2.2 and 2.3).

All random numbers come from the generator that is passed in.
"""

import numpy as np

from minillm.errors import UserError, require, whole

__all__ = ["Noise", "keep_probability", "skip_gram_pairs"]


def keep_probability(counts, threshold):
    """How likely an occurrence of each word is read at all: one minus eq. 5, at most 1.

    Equation: keep = min(1, sqrt(t / f)), f the word's share of all words

    The most frequent words tell least of what stands near them; rare ones are always kept.

    Parameters
    ----------
    counts : (V,) int
    threshold : float > 0, t; numpy.inf keeps all

    Returns
    -------
    keep : (V,) float64
    """
    require("threshold", threshold, threshold > 0, "above 0")
    frequency = counts / counts.sum()  # (V,)
    return np.minimum(1, np.sqrt(threshold / frequency))


def skip_gram_pairs(ids, document, keep, *, window, rng):
    """All pairs of one reading of the text, in a random order.

    Words that are not kept go first, so that the window reaches past them, as in word2vec.c. Each
    word then draws how far it looks, 1 to `window`, so that near words are seen more often. No pair
    reaches across documents.

    Parameters
    ----------
    ids, document : (N,) int, as NumberedWords has them
    keep : (V,) float, see keep_probability
    window : int >= 1
    rng : numpy.random.Generator

    Returns
    -------
    words, contexts : (P,) int32, the word that is read and the word near it
    """
    window = whole("window", window, 1)
    read = rng.random(len(ids)) < keep[ids]  # (N,)
    ids, document = ids[read], document[read]  # (M,)
    reach = rng.integers(1, window + 1, len(ids))  # (M,)
    words, contexts = [], []
    for far in range(1, min(window, max(len(ids) - 1, 0)) + 1):
        left, right = slice(None, -far), slice(far, None)  # every two words so far apart
        together = document[left] == document[right]
        for here, there in ((left, right), (right, left)):
            seen = together & (reach[here] >= far)
            words.append(ids[here][seen])
            contexts.append(ids[there][seen])
    if not words:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    pairs = np.stack([np.concatenate(words), np.concatenate(contexts)]).astype(np.int32)  # (2, P)
    return pairs[:, rng.permutation(pairs.shape[1])]


class Noise:
    """Draws words with probability proportional to count**power; the paper's power is 3/4.

    Parameters
    ----------
    counts : (V,) int
    power : float; 0 draws all alike, 1 as often as they come
    """

    def __init__(self, counts, power=0.75):
        require("power", power, 0 <= power < np.inf, "a number of at least 0")
        counts = np.asarray(counts, np.float64)
        weight = (counts / counts.max(initial=1)) ** power  # (V,), no power of it overflows
        if not weight.sum() > 0:
            raise UserError("counts must hold a number above 0: no word is left to draw")
        self.probability = weight / weight.sum()
        self._edges = np.cumsum(self.probability)  # (V,), where each word's part of [0, 1] ends

    def draw(self, shape, rng):
        """Ids of that shape, int32: the parts that uniform numbers fall into."""
        ids = np.searchsorted(self._edges, rng.random(shape), side="right")
        # rounding may leave the last edge a little below 1
        return np.minimum(ids, len(self._edges) - 1).astype(np.int32)

"""The counts of one length of n-grams, as a smoothing sees them."""

import dataclasses

import numpy as np

__all__ = ["Length"]


@dataclasses.dataclass(frozen=True)
class Length:
    """The n-grams of length n, and the few sums that every formula is made of.

    Attributes
    ----------
    n : int >= 1
    raw : int (M,), how often each n-gram occurs
    left : int (M,), after how many different tokens it comes, see ngram_counts.py
    context : int (M,), the n-gram of length n - 1 that each begins with
    contexts : int, the number of those; 1 for n = 1
    vocab_size : int
    last : int or None, the n-gram that KenLM counts differently, see ngram_kneser_ney.py
    """

    n: int
    raw: np.ndarray
    left: np.ndarray
    context: np.ndarray
    contexts: int
    vocab_size: int
    last: int | None = None

    def sum(self, values):
        """The sum over each context's n-grams of values (M,): (contexts,) float64."""
        return np.bincount(self.context, values, self.contexts)

    def share(self, values, total):
        """values (M,) over their contexts' total (contexts,): (M,)."""
        return values / total[self.context]

    def rest(self, freed, total):
        """What of its total (contexts,) each context has freed, as a share: (contexts,).

        A context after which nothing was seen keeps nothing back: 1.
        """
        return np.divide(freed, total, out=np.ones(len(total)), where=total > 0)

    def many(self, counts, largest):
        """n_0 to n_largest: how many n-grams have each of these counts, a list of ints."""
        found = np.bincount(np.minimum(counts, largest + 1), minlength=largest + 2)
        return found[: largest + 1].tolist()

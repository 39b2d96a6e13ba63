"""What any model must beat: guessing, and knowing only how often each token occurs."""

import numpy as np

from minillm.errors import UserError
from minillm.models.folder import load_folder, save_folder
from minillm.tokenizers.base import check_ids

__all__ = ["Uniform", "Unigram"]


class _NoContext:
    """A model that gives every token of a text the same distribution, `p` (V,)."""

    context = "nothing"
    block = None

    def __init__(self, tokenizer, p):
        self.tokenizer, self.vocab_size, self.p = tokenizer, tokenizer.vocab_size, p

    def score(self, ids):
        """-log p of each token (N,), and whether it was the likeliest, the lowest id of equals."""
        ids = check_ids(ids, self.vocab_size)
        return -np.log(self.p)[ids], ids == self.p.argmax()

    def next_distribution(self, context=()):
        """The probability of every token of the vocabulary, float64 (V,)."""
        check_ids(context, self.vocab_size)
        return self.p.copy()

    def start(self, batch=1):
        """The past of `batch` texts; there is nothing to remember, so it has no columns."""
        return np.empty((batch, 0), np.int64)

    def step(self, past, ids):
        """The next token's log p after ids (B, n), n >= 1: (B, V)."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or len(ids) != len(past) or ids.shape[1] < 1:
            raise ValueError(f"ids must have shape ({len(past)}, n), n >= 1, got {ids.shape}")
        check_ids(ids.ravel(), self.vocab_size)
        return np.tile(np.log(self.p), (len(past), 1))

    def reorder(self, past, index):
        """The past whose rows are the rows `index` of `past`."""
        return past[index]


class Uniform(_NoContext):
    """Every token of the vocabulary is equally likely: p = 1 / V."""

    kind = "uniform"
    n_parameters = 0

    def __init__(self, tokenizer):
        super().__init__(tokenizer, np.full(tokenizer.vocab_size, 1 / tokenizer.vocab_size))

    def save(self, folder):
        """Write the model's folder; UserError if that fails."""
        save_folder(folder, self.kind, {}, self.tokenizer, {})

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote; UserError if it is missing, damaged or of another kind."""
        return cls(load_folder(folder, cls.kind)[1])


class Unigram(_NoContext):
    """How often a token occurs, whatever stands before it.

    Equation: p(w) = (count(w) + 1) / (N + V)

    One is added to every count (Laplace), so that no token of the vocabulary is impossible.

    Parameters
    ----------
    tokenizer : Tokenizer
    counts : int (V,), how often each token occurs
    """

    kind = "unigram"

    def __init__(self, tokenizer, counts):
        size = tokenizer.vocab_size
        if counts.shape != (size,) or counts.dtype.kind not in "iu" or np.any(counts < 0):
            raise ValueError(
                f"counts must be {size} whole numbers of at least 0, got {counts.dtype} "
                f"of shape {counts.shape}"
            )
        self.counts = counts
        super().__init__(tokenizer, (counts + 1) / (counts.sum() + size))

    @classmethod
    def train(cls, ids, tokenizer):
        """Count a stream of ids (N,), each document followed by the end id.

        Raises
        ------
        UserError
            if there are no ids.
        """
        ids = check_ids(ids, tokenizer.vocab_size)
        if len(ids) == 0:
            raise UserError("there is no text to count tokens in")
        return cls(tokenizer, np.bincount(ids, minlength=tokenizer.vocab_size))

    @property
    def n_parameters(self):
        """The number of counts, one for each token of the vocabulary."""
        return len(self.counts)

    def save(self, folder):
        """Write the model's folder; UserError if that fails."""
        save_folder(folder, self.kind, {}, self.tokenizer, {"counts": self.counts})

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote; UserError if it is missing, damaged or of another kind."""
        _, tokenizer, arrays = load_folder(folder, cls.kind)
        try:
            return cls(tokenizer, arrays["counts"])
        except (KeyError, ValueError) as error:
            raise UserError(f"{folder}: not a whole unigram model: {error}") from None

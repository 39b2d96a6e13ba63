"""The n-gram language model, by interpolated modified Kneser-Ney, over any tokenizer's ids.

Counting is in ngram_counts.py, the smoothing's formulas are in ngram_kneser_ney.py, and what is
asked of them for each length of n-gram in ngram_level.py.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.models.folder import load_folder, save_folder
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_kneser_ney import adjusted_counts, discounts, interpolation
from minillm.models.ngram_level import Level
from minillm.tokenizers.base import check_ids

__all__ = ["NGram", "NGramConfig"]

CHUNK = 1 << 20  # tokens scored at once, which bounds the memory that it takes


@dataclasses.dataclass(frozen=True)
class NGramConfig:
    """order: tokens in the longest n-gram, the predicted one included; smoothing: one, so far."""

    order: int = 5
    smoothing: str = "modified-kneser-ney"

    def __post_init__(self):
        if not isinstance(self.order, int) or self.order < 1:
            raise UserError(f"order must be a whole number of at least 1, got {self.order!r}")
        if self.smoothing != "modified-kneser-ney":
            raise UserError(f"smoothing must be modified-kneser-ney, got {self.smoothing!r}")


class NGram:
    """Predicts a token from those just before it, by how often they were seen together.

    A context never reaches across a document's end: the end id stands for all that came before.

    Parameters
    ----------
    config : NGramConfig
    tokenizer : Tokenizer
    keys, counts : lists of int64 arrays, for each length the n-grams and their adjusted counts, as
        `count_ngrams` and `adjusted_counts` give them

    Attributes
    ----------
    notes : list of str, one for each length whose counts were too few for the discounts' formula

    Raises
    ------
    ValueError
        if keys and counts do not belong together.
    """

    kind = "ngram"
    block = None

    def __init__(self, config, tokenizer, keys, counts):
        self.config, self.tokenizer = config, tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.counts, self.notes, self.levels = counts, [], []
        below, contexts = None, 1
        for length, (key, count) in enumerate(zip(keys, counts, strict=True), start=1):
            d, fell_back = discounts(count)
            if fell_back:
                self.notes.append(f"length {length}: counts too few for discounts, {d} taken")
            alpha, gamma = interpolation(count, key // self.vocab_size, contexts, d)
            below = Level(key, alpha, gamma, self.vocab_size, below)
            self.levels.append(below)
            contexts = len(key)

    @classmethod
    def train(cls, ids, tokenizer, *, order=5):
        """Count the n-grams of a stream of ids (N,), each document followed by the end id.

        Raises
        ------
        UserError
            for an order below 1, or no ids at all.
        """
        config = NGramConfig(order)
        size, end = tokenizer.vocab_size, tokenizer.end_id
        ids = check_ids(ids, size)
        if len(ids) == 0:
            raise UserError("there is no text to count n-grams in")
        found = count_ngrams(ids, order=order, vocab_size=size, end_id=end)
        return cls(config, tokenizer, [c.keys for c in found], [adjusted_counts(c) for c in found])

    @property
    def n_parameters(self):
        """The number of n-grams, of all lengths, that have a count."""
        return sum(int(np.count_nonzero(count)) for count in self.counts)

    @property
    def context(self):
        tokens = self.config.order - 1
        return f"up to {tokens} tokens before it in the same document" if tokens else "nothing"

    def score(self, ids):
        """Each token's -log p given those before it, the first one's given the end id.

        Parameters
        ----------
        ids : integers (N,)

        Returns
        -------
        nats : (N,)
        correct : bool (N,), whether the token was the most probable one (the lowest id of equals)
        """
        tokens = np.append(self.tokenizer.end_id, check_ids(ids, self.vocab_size)).astype(np.int64)
        p, best = np.empty(len(tokens) - 1), np.empty(len(tokens) - 1, np.int64)
        for start in range(0, len(p), CHUNK):
            stop = min(start + CHUNK, len(p))
            low = max(0, start - max(self.config.order - 2, 0))  # where the first's context begins
            part = self._score(tokens[low : stop + 1])
            p[start:stop], best[start:stop] = (x[start - low :] for x in part)
        return -np.log(p), best == tokens[1:]

    def _score(self, tokens):
        """The probability of each of tokens[1:], and the most probable token in its place."""
        p = self.levels[0].p[tokens[1:]]  # (N,)
        best = np.full(len(p), self.levels[0].best[0])  # (N,)
        node = tokens  # (N + 1,), the n-gram of this length that ends at each token; -1: not seen
        for level in self.levels[1:]:
            # Nothing was counted that goes on after an end id: such a context passes all down.
            here = np.flatnonzero(node[:-1] >= 0)
            context = node[here]
            found = level.find(context, tokens[here + 1])
            seen = found >= 0
            p[here] *= level.gamma[context]
            p[here[seen]] += level.alpha[found[seen]]
            best[here] = level.best[context]
            node = np.full(len(tokens), -1)
            node[here + 1] = found
        return p, best

    def next_distribution(self, context=()):
        """The probability of every token of the vocabulary after `context`, float64 (V,).

        `context` is any number of ids: what stands before it is not known, unless it begins with
        the end id, which begins a document.
        """
        past = self.start(1)
        self._read(past, check_ids(context, self.vocab_size)[None])
        return self._distribution(past[0])

    def start(self, batch=1):
        """The past of `batch` texts of which nothing has been read, for `step`.

        It holds, for each length below `order`, the n-gram that the text ends in, or -1 for one
        that was not seen. A document begins with the end id: read that first.
        """
        return np.full((batch, self.config.order - 1), -1)

    def step(self, past, ids):
        """Read ids (B, n), n >= 1, which changes `past`; the next token's log p, (B, V)."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or len(ids) != len(past) or ids.shape[1] < 1:
            raise ValueError(f"ids must have shape ({len(past)}, n), n >= 1, got {ids.shape}")
        check_ids(ids.ravel(), self.vocab_size)
        self._read(past, ids)
        return np.log([self._distribution(nodes) for nodes in past])

    def reorder(self, past, index):
        """The past whose rows are the rows `index` of `past`."""
        return past[index]

    def _read(self, past, ids):
        depth = past.shape[1]  # tokens further back than that leave no trace
        for token in ids[:, max(0, ids.shape[1] - depth) :].T.astype(np.int64):  # (B,)
            before = past.copy()
            past[:, 0] = token
            for k in range(1, depth):
                past[:, k] = self.levels[k].find(before[:, k - 1], token)

    def _distribution(self, nodes):
        p = self.levels[0].p.copy()  # (V,)
        for level, node in zip(self.levels[1:], nodes, strict=True):
            if node < 0:
                break
            level.add_to(p, node)
        return p

    def save(self, folder):
        """Write weights.safetensors and model.json into a folder.

        Raises
        ------
        UserError
            if the folder cannot be written to.
        """
        arrays: dict[str, np.ndarray] = {}
        for length, (level, count) in enumerate(
            zip(self.levels, self.counts, strict=True), start=1
        ):
            arrays |= {f"{length}.keys": level.keys, f"{length}.counts": count}
        save_folder(folder, self.kind, dataclasses.asdict(self.config), self.tokenizer, arrays)

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote.

        Raises
        ------
        UserError
            if it is missing, cut off, of another kind, or its parts do not belong together.
        """
        config, tokenizer, arrays = load_folder(folder, cls.kind)
        try:
            config = NGramConfig(**config)
            lengths = range(1, config.order + 1)
            keys, counts = ([arrays[f"{n}.{name}"] for n in lengths] for name in ("keys", "counts"))
            _check_saved(keys, counts, tokenizer.vocab_size)
            return cls(config, tokenizer, keys, counts)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}: not a whole n-gram model: {error}") from None


def _check_saved(keys, counts, vocab_size):
    """What is relied on without looking: one key a token, sorted keys, prefixes that exist."""
    if not np.array_equal(keys[0], np.arange(vocab_size)):
        raise ValueError(f"the n-grams of length 1 are not the {vocab_size} tokens")
    contexts = 1
    for length, (key, count) in enumerate(zip(keys, counts, strict=True), start=1):
        same = key.shape == count.shape == (len(key),) and key.dtype == count.dtype == np.int64
        limit = contexts * vocab_size
        ordered = same and np.all(np.diff(key, prepend=-1) > 0) and np.all(key < limit)
        if not ordered or np.any(count < (length > 1)):
            raise ValueError(f"the n-grams of length {length} are out of order or range")
        contexts = len(key)

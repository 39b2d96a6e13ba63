"""The n-gram language model, with any smoothing, over any tokenizer's ids.

Counting is in ngram_counts.py, the smoothings' formulas are in ngram_smoothing.py, how numbers come
from both in ngram_build.py, and what is asked of them for each length of n-gram in ngram_level.py;
files are ngram_files.py's. The whole in a page of plain Python, to read first: ngram_simple.py.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.models.next_token import NextToken
from minillm.models.ngram_build import build_levels
from minillm.models.ngram_config import GIVEN, NGramConfig
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_files import load_ngram, save_ngram
from minillm.models.ngram_jelinek_mercer import with_weights
from minillm.models.ngram_order import check_order
from minillm.models.ngram_smoothing import SCORE, SMOOTHINGS
from minillm.models.ngram_walk import ABSENT, UNSEEN, walk
from minillm.tokenizers.base import check_ids

__all__ = ["NGram", "NGramConfig"]

CHUNK = 1 << 20  # tokens scored at once, which bounds the memory that it takes


class NGram(NextToken):
    """Predicts a token from those just before it, by how often they were seen together.

    A context never reaches across a document's end: the end id, which is predicted like any token,
    stands once for all that came before. What the vocabulary lacks is the unknown id, one token
    like the others: seen as often as it stands in the text that was counted, and where that is
    never, as probable as the smoothing makes what was never seen. Both belong to the V tokens that
    a distribution sums over.

    Parameters
    ----------
    config : NGramConfig
    tokenizer : Tokenizer
    levels : list of Level, by length; of length 1 every token of the vocabulary has a key
    notes : list of str: where counting had to fall back, and on what

    Attributes
    ----------
    is_distribution : bool, False for stupid back-off, which gives scores

    Raises
    ------
    ValueError
        if there are not as many levels as the config's order.
    """

    kind = "ngram"
    block = None

    def __init__(self, config, tokenizer, levels, notes=()):
        if len(levels) != config.order:
            raise ValueError(f"a model of order {config.order} has as many levels: {len(levels)}")
        self.config, self.tokenizer, self.levels = config, tokenizer, levels
        self.notes, self.vocab_size = list(notes), tokenizer.vocab_size
        smoothing = SMOOTHINGS.get(config.smoothing)  # None: the probabilities were given
        self.alone = smoothing is not None and smoothing.alone
        self.is_distribution = smoothing is None or smoothing.form != SCORE
        # what a context that was not seen multiplies the shorter one's numbers by
        self.unseen = 1.0 if self.is_distribution else config.value("factor")

    @classmethod
    def train(cls, ids, tokenizer, *, held_out=None, progress=None, **settings):
        """Count the n-grams of a stream of ids (N,), each document followed by the end id.

        Parameters
        ----------
        ids : integers (N,)
        tokenizer : Tokenizer
        held_out : integers (T,), a text of its own to find Jelinek-Mercer's weights on; None: they
            are found on the last tenth of ids after counting the rest, and then all is counted
        progress : function of (lengths counted, order) or None
        settings : of NGramConfig

        Raises
        ------
        UserError
            for a setting out of range, an order above 1000 that no document is long enough for,
            held-out text that no weights are to be found on, no ids at all, or more than fit in
            memory.
        """
        known = [field.name for field in dataclasses.fields(NGramConfig)]
        if extra := sorted(settings.keys() - set(known)):
            raise UserError(f"ngram has no setting {extra[0]!r}; there are: {', '.join(known)}")
        config = NGramConfig(**settings)
        size, end = tokenizer.vocab_size, tokenizer.end_id
        ids = check_ids(ids, size)
        if len(ids) == 0:
            raise UserError("there is no text to count n-grams in")
        if config.smoothing == GIVEN:
            raise UserError("given probabilities are read, not counted")
        check_order(ids, config.order, end)
        config, notes = with_weights(config, ids, held_out, size, end)
        counts = count_ngrams(
            ids, order=config.order, vocab_size=size, end_id=end, progress=progress
        )
        levels, more = build_levels(counts, config, size)
        return cls(config, tokenizer, levels, notes + more)

    @property
    def n_parameters(self):
        """The number of n-grams, of all lengths, that have a probability of their own."""
        return sum(len(level.keys) for level in self.levels)

    @property
    def context(self):
        tokens = self.config.order - 1
        return f"up to {tokens} tokens before it in the same document" if tokens else "nothing"

    def score(self, ids):
        """Each token's -log p given those before it, the first one's given the end id.

        Of stupid back-off the -log of its score, which is no probability.

        Parameters
        ----------
        ids : integers (N,)

        Returns
        -------
        nats : (N,), infinity for a token that is impossible
        correct : bool (N,), whether the token was the most probable one (the lowest id of equals)
        """
        ids = check_ids(ids, self.vocab_size)
        best = np.empty(len(ids), np.int64)
        p = self._probabilities(ids, best)
        with np.errstate(divide="ignore"):
            return -np.log(p), best == ids

    def log_p(self, ids):
        """log p of each token given those before it, (N,); what `score` gives, but faster."""
        with np.errstate(divide="ignore"):
            return np.log(self._probabilities(check_ids(ids, self.vocab_size)))

    def matched(self, ids):
        """How long the longest n-gram is, from 1 to order, that ends in each token: int (N,).

        It is the one whose p is the token's; the shorter it is, the further the model backed off.
        """
        tokens = np.append(self.tokenizer.end_id, check_ids(ids, self.vocab_size)).astype(np.int64)
        length = np.ones(len(tokens) - 1, np.int64)
        for n, (_, step) in enumerate(walk(self.levels, tokens, self.tokenizer.end_id), start=2):
            length[step.here[step.found >= 0]] = n
        return length

    def _probabilities(self, ids, best=None):
        """p of each token (N,); where `best` is an array, the most probable token is put there."""
        tokens = np.append(self.tokenizer.end_id, ids).astype(np.int64)
        p = np.empty(len(ids))
        for start in range(0, len(p), CHUNK):
            stop = min(start + CHUNK, len(p))
            low = max(0, start - max(self.config.order - 2, 0))  # where the first's context begins
            found, top = self._read_stream(tokens[low : stop + 1], best is not None)
            p[start:stop] = found[start - low :]
            if best is not None:
                best[start:stop] = top[start - low :]
        return p

    def _read_stream(self, tokens, with_best):
        """The probability of each of tokens[1:], and the most probable token in its place."""
        first, uniform = self.levels[0], 1 / self.vocab_size
        p = first.p[tokens[1:]]  # (N,)
        best = np.zeros(len(p), np.int64)  # (N,)
        if with_best:
            best += first.best.of(np.zeros(1, int))[0]
        for level, step in walk(self.levels, tokens, self.tokenizer.end_id):
            here, seen = step.here, step.found >= 0
            lower = uniform if self.alone else p[here]
            now = level.backoff[step.context] * lower
            now[seen] = level.p[step.found[seen]]
            p[here] = now
            if self.alone:
                p[step.unseen] = uniform
            elif not self.is_distribution:
                p[step.unseen] *= self.unseen
            if with_best:
                best[here] = level.best.of(step.context)[0]
                if self.alone:
                    best[step.unseen] = 0
        return p, best

    def distributions(self, ids, size):
        """The distributions that the tokens of a stream stand in: blocks (size, V) of p.

        ids : (N,), the first predicted from the end id

        Raises
        ------
        UserError
            for stupid back-off, which has no probabilities.
        """
        self._check_is_distribution()
        tokens = np.append(self.tokenizer.end_id, check_ids(ids, self.vocab_size)).astype(np.int64)
        for start in range(0, len(tokens) - 1, size):
            low = max(0, start - max(self.config.order - 2, 0))
            part = tokens[low : min(start + size, len(tokens) - 1) + 1]
            longest = np.zeros(len(part) - 1, np.int64)  # each token's longest context that helps
            where = np.zeros(len(part) - 1, np.int64)  # the level that has it
            for k, (_, step) in enumerate(walk(self.levels, part, self.tokenizer.end_id), start=1):
                longest[step.here], where[step.here] = step.context, k
                if self.alone:
                    where[step.unseen] = UNSEEN
            p = np.full((len(part) - 1, self.vocab_size), 1 / self.vocab_size)
            for k, level in enumerate(self.levels):
                mine = np.flatnonzero(where == k)
                p[mine] = level.rows(longest[mine])
            yield p[start - low :]

    def next_distribution(self, context=()):
        """The probability of every token of the vocabulary after `context`, float64 (V,).

        `context` is any number of ids: what stands before it is not known, unless it begins with
        the end id, which begins a document.

        Raises
        ------
        UserError
            for stupid back-off, which has no probabilities.
        """
        self._check_is_distribution()
        past = self.start(1)
        self._read(past, check_ids(context, self.vocab_size)[None])
        return self._distribution(past[0])

    def _check_is_distribution(self):
        if not self.is_distribution:
            raise UserError(f"{self.config.smoothing} gives scores, not a distribution")

    def start(self, batch=1):
        """The past of `batch` texts of which nothing has been read, for `step`.

        It holds, for each length below `order`, the n-gram that the text ends in, UNSEEN or ABSENT.
        A document begins with the end id: read that first.
        """
        return np.full((batch, self.config.order - 1), ABSENT)

    def step(self, past, ids):
        """Read ids (B, n), n >= 1, which changes `past`; the next token's log p, (B, V).

        Of stupid back-off the log of its scores: whoever draws from them makes their sum 1.
        """
        ids = np.asarray(ids)
        if ids.ndim != 2 or len(ids) != len(past) or ids.shape[1] < 1:
            raise ValueError(f"ids must have shape ({len(past)}, n), n >= 1, got {ids.shape}")
        check_ids(ids.ravel(), self.vocab_size)
        self._read(past, ids)
        with np.errstate(divide="ignore"):
            return np.log([self._distribution(nodes) for nodes in past])

    def reorder(self, past, index):
        """The past whose rows are the rows `index` of `past`."""
        return past[index]

    def _read(self, past, ids):
        depth = past.shape[1]  # tokens further back than that leave no trace
        for token in ids[:, max(0, ids.shape[1] - depth) :].T.astype(np.int64):  # (B,)
            before = past.copy()
            past[:, :1] = token[:, None]
            for k in range(1, depth):
                found = self.levels[k].find(before[:, k - 1], token)
                past[:, k] = np.where(before[:, k - 1] == ABSENT, ABSENT, found)
            past[token == self.tokenizer.end_id, 1:] = ABSENT

    def _distribution(self, nodes):
        p = self.levels[0].p.copy()  # (V,)
        uniform = np.full(self.vocab_size, 1 / self.vocab_size)
        for level, node in zip(self.levels[1:], nodes, strict=True):
            if node == ABSENT:
                break
            lower = uniform if self.alone else p
            p = self.unseen * lower if node == UNSEEN else level.distribution(lower, node)
        return p

    def save(self, folder):
        """Write weights.safetensors and model.json into a folder.

        Raises
        ------
        UserError
            if the folder cannot be written to.
        """
        save_ngram(self, folder)

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote.

        Raises
        ------
        UserError
            if it is missing, cut off, of another kind, or its parts do not belong together.
        """
        return cls(*load_ngram(folder, cls.kind))

"""What is asked of any model that can tell the whole distribution of the next token."""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["NextToken", "distributions", "log_softmax"]

NUMBERS_AT_ONCE = 1 << 21  # of a block of whole distributions


class NextToken:
    """Entropy and sampling, from `next_distribution`, `start` and `step`."""

    next_distribution: Callable[..., np.ndarray]
    start: Callable[..., Any]
    step: Callable[..., np.ndarray]

    def entropy(self, context=()):
        """How open the next token is after `context` (N,) ids, in nats: -sum of p log p."""
        p = self.next_distribution(context)
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    def sample(self, rng, *, n=1, context=()):
        """Draw n tokens that go on after `context`, one after another.

        For temperatures, cut-offs and a stop at a document's end see minillm.generation.

        Parameters
        ----------
        rng : numpy Generator
        n : int >= 0
        context : (N,) int, as of `next_distribution`

        Returns
        -------
        ids : (n,) int64
        """
        text = np.empty(n, np.int64)
        past, p = self.start(1), self.next_distribution(context)
        if len(context):
            self.step(past, np.asarray(context)[None])
        for i in range(n):
            text[i] = _draw(p, rng)
            if i + 1 < n:
                p = np.exp(log_softmax(self.step(past, text[None, i : i + 1])[0]))
        return text


def _draw(p, rng):
    """One id, by where a uniform number falls in the running sum; never one whose p is 0."""
    total = np.cumsum(p)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(0, len(p) - 1))


def distributions(model, ids):
    """The distributions that the tokens of a stream stand in, in blocks.

    Parameters
    ----------
    model : with `start`, `step`, `tokenizer` and `vocab_size`, or `distributions` of its own
    ids : int (N,); the first is predicted from the end token

    Yields
    ------
    p : (n, V) float64; together N rows, cut in the same places for every model
    """
    size = max(1, NUMBERS_AT_ONCE // model.vocab_size)
    if hasattr(model, "distributions"):
        yield from model.distributions(ids, size)
        return
    inputs = np.append(model.tokenizer.end_id, ids[:-1]).astype(np.int64)[: len(ids)]
    past = model.start(1)
    for begin in range(0, len(ids), size):
        tokens = inputs[begin : begin + size]
        logits = np.concatenate([model.step(past, t[None, None]) for t in tokens])
        yield np.exp(log_softmax(logits))


def log_softmax(logits):
    """Logits (..., V) as log p, in float64; those of a distribution stay what they are.

    A row that is -inf throughout makes every token equally likely.
    """
    z = np.asarray(logits, np.float64)
    top = z.max(-1, keepdims=True)
    z = np.where(np.isneginf(top), 0.0, z - np.where(np.isneginf(top), 0.0, top))
    return z - np.log(np.exp(z).sum(-1, keepdims=True))

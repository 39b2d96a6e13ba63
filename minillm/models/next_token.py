"""What is asked of any model that can tell the whole distribution of the next token."""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["NextToken"]


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
                p = np.exp(self.step(past, text[None, i : i + 1])[0])
        return text


def _draw(p, rng):
    """One id, by where a uniform number falls in the running sum; never one whose p is 0."""
    total = np.cumsum(p)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(0, len(p) - 1))

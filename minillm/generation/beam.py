"""Beam search: keep the few likeliest continuations at every step, and return the best whole ones.

A continuation of n tokens scores log p / n**length_penalty, Hugging Face's form (Wu et al. 2016,
arXiv:1609.08144, eq. 14, divide by ((5 + n) / 6)**alpha instead). The stop token counts, in p and
in n. The search ends when no unfinished continuation can still enter the best `beams`, as
`early_stopping="never"` does there; the other settings of theirs stop sooner, and may miss it.
Left out: Wu's coverage penalty, which needs attention to a source; drawing, see sampling.py.
"""

import dataclasses
import math

import numpy as np

from minillm.errors import is_whole, require
from minillm.generation.checks import is_number, not_finite, prompt_array

__all__ = ["beam_search"]


def beam_search(model, prompt_ids, *, beams, max_new_tokens, length_penalty=1.0, stop_id=None):
    """The best continuations of a prompt that a search of width `beams` finds.

    Equation: score(y) = sum_t log p(y_t | y_<t) / len(y)**length_penalty

    Parameters
    ----------
    model : with `start`, `step`, `vocab_size` and `reorder(past, index) -> past`, which keeps the
        rows `index` of a batch's past
    prompt_ids : (N,) int; empty: the model starts as at the beginning of a document
    beams : int >= 1
    max_new_tokens : int >= 0
    length_penalty : float from -10 to 10; 0 compares plain log probabilities, above 0 favours
        longer continuations
    stop_id : int or None, the token that ends a continuation

    Returns
    -------
    results : list of (ids (n,) int32, score float), best first, at most `beams` of them; ids are
        the new tokens, without `stop_id`

    Raises
    ------
    UserError
        naming the parameter that is out of its range, or the prompt's id that is.
    """
    require("beams", beams, is_whole(beams) and beams >= 1, "a whole number of at least 1")
    holds = is_number(length_penalty) and abs(length_penalty) <= 10
    require("length_penalty", length_penalty, holds, "a number from -10 to 10")
    prompt = prompt_array(model, prompt_ids, max_new_tokens)
    finished = Finished(beams, length_penalty)
    past, ids = model.start(1), prompt[None]  # ids: (B, n), what the model has not seen yet
    texts = np.empty((1, 0), np.int32)  # (B, t), the unfinished continuations, B <= beams
    log_p = np.zeros(1)  # (B,)
    for length in range(1, max_new_tokens + 1):
        scores = log_p[:, None] + log_softmax(model.step(past, ids))  # (B, V)
        # at most one candidate of each row stops, so among 2 * beams there are `beams` that go on
        rows, tokens = _largest(scores, 2 * beams)
        log_p = scores[rows, tokens]
        texts = np.concatenate([texts[rows], tokens[:, None].astype(np.int32)], axis=1)  # (B, t)
        stops = tokens == stop_id
        if length == max_new_tokens:
            finished.add(texts, log_p, stops, np.ones_like(stops))
            break
        finished.add(texts[:beams], log_p[:beams], stops[:beams], stops[:beams])
        live = np.flatnonzero(~stops)[:beams]
        longest = max_new_tokens if length_penalty > 0 else length + 1
        if live.size == 0 or not finished.could_enter(log_p[live[0]], longest):
            break
        texts, log_p = texts[live], log_p[live]
        past, ids = model.reorder(past, rows[live]), tokens[live, None]
    return finished.best


@dataclasses.dataclass
class Finished:
    """The best finished continuations so far, at most `beams`, best first."""

    beams: int
    length_penalty: float
    best: list = dataclasses.field(default_factory=list)

    def score(self, log_p, length):
        return float(log_p) / length**self.length_penalty

    def add(self, texts, log_p, stops, ends):
        """Add the rows where `ends`; where `stops` too, the last token is the stop and is cut."""
        for i in np.flatnonzero(ends):
            length = texts.shape[1]
            ids = texts[i, : length - 1] if stops[i] else texts[i]
            self.best.append((ids.copy(), self.score(log_p[i], length)))
        self.best = sorted(self.best, key=lambda found: -found[1])[: self.beams]

    def could_enter(self, log_p, longest):
        """Whether a continuation with `log_p` so far may yet beat the worst: more tokens only lower
        log p, so its score is at most the one it would have at its `longest` for free."""
        return len(self.best) < self.beams or self.score(log_p, longest) > self.best[-1][1]


def log_softmax(logits):
    """In float64, since the scores of many steps are added."""
    logits = logits.astype(np.float64)  # (B, V)
    largest = logits.max(axis=-1, keepdims=True)
    if not np.all(np.isfinite(largest)):
        raise not_finite()
    logits -= largest
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _largest(scores, count):
    """(rows, columns) of the `count` largest, largest first; of equals the earlier."""
    flat = scores.ravel()
    if count < flat.size:
        edge = np.partition(flat, flat.size - count)[flat.size - count]
        picked = np.flatnonzero(flat >= edge)
    else:
        picked = np.arange(flat.size)
    picked = picked[np.argsort(-flat[picked], kind="stable")][:count]
    picked = picked[flat[picked] > -math.inf]
    return np.divmod(picked, scores.shape[1])

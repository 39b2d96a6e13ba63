"""Scores of a stream by an n-gram model in back-off form, and nothing but scores.

NGram.log_p says the same of every smoothing, and `score` the most probable tokens besides. Here
only the places whose n-gram was seen go on to the next length, and few do so for long.
"""

import numpy as np

__all__ = ["back_off_scores"]

CHUNK = 1 << 15  # tokens scored at once: what that takes stays in the processor's cache


def back_off_scores(model, ids):
    """log p of each token given those before it, (N,), the first one's given the end id.

    Parameters
    ----------
    model : NGram, whose smoothing is a distribution of back-off form
    ids : int64 (N,) below the vocabulary's size
    """
    end_id = model.tokenizer.end_id
    tokens = np.append(end_id, ids)  # (N + 1,)
    p = np.empty(len(ids))
    for start in range(0, len(ids), CHUNK):
        low = max(0, start - max(model.config.order - 2, 0))  # where the first's context begins
        part = tokens[low : start + CHUNK + 1]
        p[start : start + CHUNK] = _probabilities(model.levels, part, end_id)[start - low :]
    with np.errstate(divide="ignore"):
        return np.log(p, out=p)


def _probabilities(levels, tokens, end_id):
    """p of each of tokens[1:], (n,)."""
    last, tokens = tokens[:-1], tokens[1:]
    p = levels[0].p.take(tokens)
    goes_on = tokens != end_id
    goes_on[-1:] = False
    here, context = np.arange(len(tokens)), last  # where a context was seen, and which
    for level in levels[1:]:
        found = level.find(context, tokens.take(here))
        unseen = np.flatnonzero(found < 0)
        p[here.take(unseen)] *= level.backoff.take(context.take(unseen))
        seen = np.flatnonzero(found >= 0)
        here, found = here.take(seen), found.take(seen)
        p[here] = level.p.take(found)
        longer = np.flatnonzero(goes_on.take(here))  # whose n-gram is the next token's context
        here, context = here.take(longer) + 1, found.take(longer)
    return p

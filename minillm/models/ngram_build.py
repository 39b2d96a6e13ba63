"""From counts to levels: each length smoothed upon the one below it, and pruned on the way."""

import numpy as np

from minillm.models.ngram_level import ROWS_AT_ONCE, Level, suffixes
from minillm.models.ngram_smoothing import BACK_OFF, INTERPOLATED, SMOOTHINGS, Length

__all__ = ["build_levels"]

LITTLE = 1e-3  # of the probability: from here on 1 minus the rest has too few digits left


def build_levels(counts, config, vocab_size):
    """The levels of a model, shortest n-grams first.

    Parameters
    ----------
    counts : list of Counts, by length
    config : NGramConfig; of Jelinek-Mercer, with its weights
    vocab_size : int

    Returns
    -------
    levels : list of Level
    notes : list of str, one for each length whose counts were too few for its formula
    """
    smoothing = SMOOTHINGS[config.smoothing]
    notes: list[str] = []
    levels: list[Level] = []
    below: Level | None = None
    kept = np.ones(1, bool)  # of the contexts, those that the length below has kept
    for n, found in enumerate(counts, start=1):
        context, token = np.divmod(found.keys, vocab_size)  # (M,)
        last = getattr(found, "last", None)
        length = Length(n, found.raw, found.left, context, len(kept), vocab_size, last)
        threshold = config.threshold(n)
        keep = found.raw > threshold if threshold else np.ones(len(context), bool)
        numbers = smoothing.function(length, config, notes)
        if threshold or len(kept) != np.count_nonzero(kept):
            context, token = (np.cumsum(kept) - 1)[context[keep]], token[keep]
            keys, suffix = context * vocab_size + token, None
        else:
            keys, suffix = found.keys, getattr(found, "suffix", None)
        if suffix is None:
            suffix = suffixes(keys, vocab_size, None if smoothing.alone else below)
        lower = np.full(len(keys), 1 / vocab_size) if below is None else below.p[suffix]
        if smoothing.form == INTERPOLATED:
            p, backoff = _interpolate(length, numbers, lower, context, keep, kept)
        elif smoothing.form == BACK_OFF:
            seen = length.raw[keep] > 0  # of length 1 there are tokens that were not
            contexts = np.count_nonzero(kept)
            p, backoff = _back_off(
                numbers[keep], lower, context, token, seen, below, contexts, vocab_size
            )
        else:
            p, backoff = numbers[0][keep], numbers[1][kept]
        level = Level(keys, p, backoff, vocab_size, below, suffix)
        levels.append(level)
        below, kept = None if smoothing.alone else level, keep
    return levels, notes


def _interpolate(length, numbers, lower, context, keep, kept):
    """p and back-off weights from alpha and gamma; the pruned ones' alpha is shared out below."""
    alpha, gamma = numbers
    if len(context) < len(keep):
        gamma = gamma + length.sum(np.where(keep, 0.0, alpha))
    gamma = gamma[kept]
    return alpha[keep] + gamma[context] * lower, gamma


def _back_off(p, lower, context, token, seen, below, contexts, vocab_size):
    """The weight that brings each context's sum to 1, and p, which changes where nothing can.

    Equation: bow(c) = (1 - sum of p(w | c)) / (1 - sum of p(w | c')), both over the w seen after c
    """
    p = np.where(seen, p, 0.0)
    sum_p = np.bincount(context, p, contexts)
    many = np.bincount(context, seen, contexts)
    if below is None:
        rest = (vocab_size - many) / vocab_size
    else:
        rest = 1 - np.bincount(context, lower, contexts)
        todo = np.flatnonzero((rest < LITTLE) & (many < vocab_size))
        rest[todo] = _exact_rest(todo, context, token, below, vocab_size)
    nothing_unseen = (many == vocab_size) | (rest <= 0)
    scale = np.divide(1.0, sum_p, out=np.ones(contexts), where=nothing_unseen & (sum_p > 0))
    left = np.where(nothing_unseen, 0.0, np.maximum(1 - sum_p, 0))
    backoff = np.divide(left, rest, out=np.zeros(contexts), where=~nothing_unseen)
    return np.where(seen, p * scale[context], backoff[context] * lower), backoff


def _exact_rest(contexts, context, token, below, vocab_size):
    """What the shorter contexts leave to tokens not seen after these, summed token by token."""
    rest = np.empty(len(contexts))
    size = max(1, ROWS_AT_ONCE // vocab_size)
    for i in range(0, len(contexts), size):
        part = contexts[i : i + size]
        rows = below.rows(below.suffix[part])  # (n, V)
        place = np.searchsorted(part, context)
        mine = part.take(place, mode="clip") == context  # (M,)
        rows[place[mine], token[mine]] = 0
        rest[i : i + size] = rows.sum(1)
    return rest

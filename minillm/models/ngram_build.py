"""From counts to levels: each length smoothed upon the one below it, and pruned on the way."""

import numpy as np

from minillm.cores import available_cores
from minillm.models.ngram_counts import NUMBERS
from minillm.models.ngram_level import ROWS_AT_ONCE, Level, suffixes
from minillm.models.ngram_memory import check_memory
from minillm.models.ngram_parts import PART, interpolate_in_parts
from minillm.models.ngram_smoothing import BACK_OFF, INTERPOLATED, SMOOTHINGS, Length

__all__ = ["build_levels"]

LITTLE = 1e-3  # of the probability: from here on 1 minus the rest has too few digits left
ALL = slice(None)
# Bytes of memory, at most, besides NUMBERS:
WHILE_SMOOTHED = 100  # for each n-gram that is smoothed at once
WHEN_PRUNED = 80  # for each n-gram of all lengths: new keys, and tables to find them below


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

    Raises
    ------
    UserError
        where they might not fit in memory.
    """
    smoothing = SMOOTHINGS[config.smoothing]
    check_memory(_needed(counts, config), f"the probabilities of n-grams up to {len(counts)} long")
    notes: list[str] = []
    levels: list[Level] = []
    below: Level | None = None
    kept: slice | np.ndarray = ALL  # of the contexts, those that the length below has kept
    contexts = 1
    for n, found in enumerate(counts, start=1):
        threshold = config.threshold(n)
        keep = found.raw > threshold if threshold else ALL
        whole = keep is ALL and kept is ALL  # nothing is pruned, so far
        keys, suffix, first = found.keys, found.suffix, found.first
        if not whole:  # the contexts have new ids, or fewer n-grams
            context = keys // vocab_size
            if isinstance(kept, np.ndarray):
                context = (np.cumsum(kept) - 1)[context]
            keys, first = context[keep] * vocab_size + keys[keep] % vocab_size, None
            suffix = suffixes(keys, vocab_size, below)
        if smoothing.form == INTERPOLATED and whole and len(keys):
            lower = None if below is None else below.p
            p, backoff, more = interpolate_in_parts(
                smoothing.function, found, config, vocab_size, lower, n
            )
            notes += more
        else:
            context = found.keys // vocab_size  # (M,)
            length = Length(n, found.raw, found.left, context, contexts, vocab_size, found.last)
            numbers = smoothing.function(length, config, notes)
            lower = 1 / vocab_size if below is None else below.p[suffix]
            if smoothing.form == INTERPOLATED:
                p, backoff = _interpolate(length, numbers, lower, keys, keep, kept)
            elif smoothing.form == BACK_OFF:
                size = len(levels[-1].keys) if levels else 1
                p, seen = numbers[keep], found.raw[keep] > 0  # of length 1 some tokens were not
                p, backoff = _back_off(p, seen, lower, keys, vocab_size, below, size)
            else:
                p, backoff = numbers[0][keep], numbers[1][kept]
        level = Level(keys, p, backoff, vocab_size, below, suffix, first)
        levels.append(level)
        below, kept, contexts = None if smoothing.alone else level, keep, len(found.keys)
    return levels, notes


def _needed(counts, config):
    """How many bytes the levels may take while they are built."""
    at_once = max(len(found.keys) for found in counts)
    thresholds = [config.threshold(n) for n in range(1, len(counts) + 1)]
    if not any(thresholds):
        if SMOOTHINGS[config.smoothing].form == INTERPOLATED:
            at_once = min(at_once, PART * available_cores())
        return NUMBERS * sum(len(found.keys) for found in counts) + WHILE_SMOOTHED * at_once
    kept = sum(
        np.count_nonzero(found.raw > threshold) if threshold else len(found.keys)
        for found, threshold in zip(counts, thresholds, strict=True)
    )
    return (NUMBERS + WHEN_PRUNED) * kept + WHILE_SMOOTHED * at_once


def _interpolate(length, numbers, lower, keys, keep, kept):
    """p and back-off weights from alpha and gamma; the pruned ones' alpha is shared out below."""
    alpha, gamma = numbers
    if keep is not ALL:
        gamma = gamma + length.sum(np.where(keep, 0.0, alpha))
    gamma = gamma[kept]
    return alpha[keep] + gamma[keys // length.vocab_size] * lower, gamma


def _back_off(p, seen, lower, keys, vocab_size, below, contexts):
    """The weight that brings each context's sum to 1, and p, which changes where nothing can.

    Equation: bow(c) = (1 - sum of p(w | c)) / (1 - sum of p(w | c')), both over the w seen after c

    p, seen, lower, keys : (M,); lower is p(w | c'), also a number
    """
    context = keys // vocab_size
    p = np.where(seen, p, 0.0)
    sum_p = np.bincount(context, p, contexts)
    many = np.bincount(context, seen, contexts)
    if below is None:
        rest = (vocab_size - many) / vocab_size
    else:
        rest = 1 - np.bincount(context, lower, contexts)
        todo = np.flatnonzero((rest < LITTLE) & (many < vocab_size))
        rest[todo] = _exact_rest(todo, context, keys % vocab_size, below)
    nothing_unseen = (many == vocab_size) | (rest <= 0)
    scale = np.divide(1.0, sum_p, out=np.ones(contexts), where=nothing_unseen & (sum_p > 0))
    left = np.where(nothing_unseen, 0.0, np.maximum(1 - sum_p, 0))
    backoff = np.divide(left, rest, out=np.zeros(contexts), where=~nothing_unseen)
    return np.where(seen, p * scale[context], backoff[context] * lower), backoff


def _exact_rest(contexts, context, token, below):
    """What the shorter contexts leave to tokens not seen after these, summed token by token."""
    rest = np.empty(len(contexts))
    size = max(1, min(len(contexts), ROWS_AT_ONCE // below.vocab_size))
    # a block for each length and a copy
    check_memory(8 * (below.length + 2) * size * below.vocab_size, "summing probabilities")
    for i in range(0, len(contexts), size):
        part = contexts[i : i + size]
        rows = below.rows(below.suffix[part])  # (n, V)
        place = np.searchsorted(part, context)
        mine = part.take(place, mode="clip") == context  # (M,)
        rows[place[mine], token[mine]] = 0
        rest[i : i + size] = rows.sum(1)
    return rest

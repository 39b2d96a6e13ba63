"""Jelinek-Mercer's weights, by EM on text that was not counted (Jelinek & Mercer 1980).

Each length of n-gram is a hidden choice: from the longest down, take its maximum likelihood with
probability l, else go on to the shorter one, and in the end to the uniform distribution. The E-step
asks for each held-out token how likely each length was to have produced it, the M-step makes l the
share of those that came so far and stopped. No step lowers the held-out text's likelihood.

Left out: deleted interpolation over more than one held-out part.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.models.ngram_build import build_levels
from minillm.models.ngram_config import NGramConfig
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_memory import check_memory
from minillm.models.ngram_smoothing import bucket_of
from minillm.models.ngram_walk import walk
from minillm.tokenizers.base import check_ids

__all__ = ["fit_weights", "with_weights"]

START = 0.5
MOST = 1 - 1e-6  # at 1 what was not seen would be impossible
BYTES = 60  # of memory, at most, for each held-out token at each length
STEPS, ENOUGH = 500, 1e-6  # iterations at most; nats a token that a further one must bring


def with_weights(config, ids, held_out, vocab_size, end_id):
    """The NGramConfig with the weights found, where it is to have any, and notes.

    Without held_out, the last tenth of ids (N,) is taken and the rest counted.

    Raises
    ------
    UserError
        for held-out text that no weights are to be found on.
    """
    if config.smoothing != "jelinek-mercer" or config.weights is not None:
        if held_out is not None:
            raise UserError(
                f"{config.smoothing} has no held_out: it is for jelinek-mercer without weights"
            )
        return config, []
    notes, part = [], ids
    if held_out is None:
        held_out = ids[len(ids) - len(ids) // 10 :]
        part = ids[: len(ids) - len(held_out)]
        notes.append(f"weights found on the last {len(held_out)} tokens, the rest counted")
    held_out = check_ids(held_out, vocab_size)
    counts = count_ngrams(part, order=config.order, vocab_size=vocab_size, end_id=end_id)
    settings = {"buckets": config.value("buckets"), "vocab_size": vocab_size, "end_id": end_id}
    weights, more, _ = fit_weights(counts, held_out, **settings)
    return dataclasses.replace(config, weights=weights), notes + more


def fit_weights(counts, held_out, *, buckets, vocab_size, end_id):
    """The weights of each length and bucket.

    Parameters
    ----------
    counts : list of Counts, by length
    held_out : int (T,), ids that were not counted
    buckets : int, see `bucket_of`

    Returns
    -------
    weights : for each length a tuple of `buckets` floats in [0, 1)
    notes : list of str: the lengths and buckets that no held-out token could tell anything of
    nats : list of floats, the held-out text's -log p per token before each step
    """
    needed = len(held_out) * (len(counts) + 1) * BYTES
    check_memory(needed, f"finding weights on {len(held_out)} tokens")
    ml, bucket = _evidence(counts, held_out, buckets, vocab_size, end_id)
    one, nats = _maximise(ml, np.minimum(bucket, 0), [np.full(1, START) for _ in counts])
    if buckets == 1:
        weights = one
    else:  # a bucket that has no evidence keeps its length's weight
        weights, nats = _maximise(ml, bucket, [np.repeat(w, buckets) for w in one])
    notes = [
        f"length {n}: no held-out token after a context that was seen, weight {START} taken"
        for n, b in enumerate(bucket, start=1)
        if not np.any(b >= 0)
    ]
    return tuple(tuple(np.minimum(w, MOST).tolist()) for w in weights), notes, nats


def _evidence(counts, held_out, buckets, vocab_size, end_id):
    """For each length and held-out token: its maximum likelihood, and its context's bucket.

    Returns two lists: p (T,), of the uniform distribution first, then by length; bucket (T,), by
    length, -1 where the context was not seen.
    """
    levels, _ = build_levels(counts, NGramConfig(len(counts), "mle"), vocab_size)
    totals, contexts = [], 1
    for found in counts:
        totals.append(np.bincount(found.keys // vocab_size, found.raw, contexts))
        contexts = len(found.keys)
    tokens = np.append(end_id, held_out).astype(np.int64)  # (T + 1,)
    size = len(held_out)
    ml = [np.full(size, 1 / vocab_size), levels[0].p[tokens[1:]]]
    bucket = [np.full(size, bucket_of(totals[0], buckets)[0])]
    for (level, step), total in zip(walk(levels, tokens, end_id), totals[1:], strict=True):
        p, b = np.zeros(size), np.full(size, -1)
        p[step.here] = np.where(step.found >= 0, level.p.take(step.found, mode="clip"), 0)
        seen = total[step.context] > 0
        b[step.here[seen]] = bucket_of(total[step.context[seen]], buckets)
        ml.append(p)
        bucket.append(b)
    return ml, bucket


def _maximise(ml, bucket, weights):
    """EM from these weights on, until it brings nothing; also the nats before each step."""
    nats: list[float] = []
    for _ in range(STEPS if len(ml[0]) else 0):
        weight = [np.where(b >= 0, w[b], 0.0) for w, b in zip(weights, bucket, strict=True)]
        p = [ml[0]]  # of the mixture up to each length
        for w, here in zip(weight, ml[1:], strict=True):
            p.append(w * here + (1 - w) * p[-1])
        nats.append(-float(np.log(p[-1]).mean()))
        if len(nats) > 1 and nats[-2] - nats[-1] < ENOUGH:
            break
        weights = list(weights)
        came = np.ones(len(ml[0]))  # how likely each token was to come down to this length
        for n in range(len(weights), 0, -1):
            stayed = came * weight[n - 1] * ml[n] / p[n]
            known, size = bucket[n - 1] >= 0, len(weights[n - 1])
            of = bucket[n - 1][known]
            top, all_ = np.bincount(of, stayed[known], size), np.bincount(of, came[known], size)
            weights[n - 1] = np.divide(top, all_, out=weights[n - 1].copy(), where=all_ > 0)
            came = came - stayed
    return weights, nats

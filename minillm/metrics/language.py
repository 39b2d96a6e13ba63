"""How well a model predicts a text, in numbers that compare across tokenizers.

One convention for every model: all tokens' bits, those of the document ends included, over the
UTF-8 bytes of the same text. Perplexity and accuracy are by token: they compare models over one
tokenizer only.
"""

import math
import warnings

import numpy as np

from minillm.errors import is_whole

__all__ = [
    "ImpossibleToken",
    "PerplexityOverflow",
    "accuracy",
    "bits_per_byte",
    "checked_nats",
    "exponential",
    "perplexity",
]


class ImpossibleToken(UserWarning):
    """A text has a token whose probability is 0, so that its perplexity is infinite."""


class PerplexityOverflow(UserWarning):
    """No token of a text is impossible, but its perplexity is beyond the range of float64."""


def bits_per_byte(nats, n_bytes, unknown_bytes=0):
    """The bits that a model needs for each UTF-8 byte of a text.

    Equation: bpb = (sum(nats) / ln 2 + 8 * unknown_bytes) / n_bytes

    The bytes behind an unknown token cannot be had back from it: they are paid in full, 8 bits
    each, on top of the token's own.

    Parameters
    ----------
    nats : (N,), -log p of every token, document ends included
    n_bytes : int >= 1, the UTF-8 bytes of the text
    unknown_bytes : int >= 0, how many of them stand behind unknown tokens

    Raises
    ------
    ValueError
        for a NaN in nats, or bytes that cannot be so many.
    """
    fit = is_whole(n_bytes) and is_whole(unknown_bytes)
    if not fit or not 0 <= unknown_bytes <= n_bytes or n_bytes == 0:
        raise ValueError(
            "n_bytes must be a whole number of at least 1 and unknown_bytes one within it, "
            f"got {n_bytes!r} and {unknown_bytes!r}"
        )
    nats = float(checked_nats(nats).sum())
    return (nats / math.log(2) + 8 * unknown_bytes) / n_bytes


def perplexity(nats):
    """The number of equally likely tokens that would be as hard to choose from.

    Equation: perplexity = exp(mean(nats))

    nats : (N,), -log p of every token

    Warns
    -----
    ImpossibleToken
        if one is infinite, and so is the perplexity: says which comes first.
    PerplexityOverflow
        if none is, but the exponential is beyond float64 and comes out as infinity: says which
        token needs most.

    Raises
    ------
    ValueError
        for a NaN in nats, or no token.
    """
    nats = checked_nats(nats)
    if nats.size == 0:
        raise ValueError("nats must hold at least one token, got none")
    if (impossible := np.isposinf(nats)).any():
        warnings.warn(
            f"{np.count_nonzero(impossible)} tokens have probability 0, the first at position "
            f"{np.argmax(impossible)}: the perplexity is infinite",
            ImpossibleToken,
            stacklevel=2,
        )
        return math.inf
    mean = float(nats.mean())
    if (found := exponential(mean)) == math.inf:
        warnings.warn(
            f"the perplexity is beyond float64: a token needs {mean:,.1f} nats on average, the "
            f"worst one {nats.max():,.1f}, at position {np.argmax(nats)}",
            PerplexityOverflow,
            stacklevel=2,
        )
    return found


def exponential(mean):
    """exp(mean), infinity where that is beyond float64."""
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def accuracy(predicted, target, *, ignore_index=-100):
    """The share of positions at which the predicted class is the target.

    Parameters
    ----------
    predicted, target : integers of one shape
    ignore_index : positions with this target do not count

    Raises
    ------
    ValueError
        for shapes that differ, or if no position counts.
    """
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.shape != target.shape:
        raise ValueError(f"target must have shape {predicted.shape}, got {target.shape}")
    counted = target != ignore_index
    if not counted.any():
        raise ValueError("accuracy needs at least one position that counts, got none")
    return float((predicted == target)[counted].mean())


def checked_nats(nats):
    """The nats as float64; a ValueError that names the position of a NaN."""
    try:
        nats = np.asarray(nats, np.float64)
    except (TypeError, OverflowError):
        raise ValueError(f"nats must be numbers, got {nats!r}") from None
    if (bad := np.isnan(nats)).any():
        raise ValueError(f"nats must be numbers, got NaN at position {int(np.argmax(bad))}")
    return nats

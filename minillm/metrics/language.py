"""How well a model predicts a text, in numbers that compare across tokenizers.

One convention for every model: all tokens' bits, those of the document ends included, over the
UTF-8 bytes of the same text. Perplexity and accuracy are by token: they compare models over one
tokenizer only.
"""

import math
import warnings

import numpy as np

__all__ = ["ImpossibleToken", "accuracy", "bits_per_byte", "perplexity"]


class ImpossibleToken(UserWarning):
    """A text has a token whose probability is 0, so that its perplexity is infinite."""


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
    if not 0 <= unknown_bytes <= n_bytes or n_bytes == 0:
        raise ValueError(
            f"n_bytes must be at least 1 and unknown_bytes within it, got {n_bytes} "
            f"and {unknown_bytes}"
        )
    return (_sum(nats) / math.log(2) + 8 * unknown_bytes) / n_bytes


def perplexity(nats):
    """The number of equally likely tokens that would be as hard to choose from.

    Equation: perplexity = exp(mean(nats))

    nats : (N,), -log p of every token; infinity where the exponential is beyond float64.

    Warns
    -----
    ImpossibleToken
        if one is infinite: says which comes first.

    Raises
    ------
    ValueError
        for a NaN in nats, or no token.
    """
    if np.size(nats) == 0:
        raise ValueError("nats must hold at least one token, got none")
    if (impossible := np.isposinf(nats)).any():
        warnings.warn(
            f"{np.count_nonzero(impossible)} tokens have probability 0, the first at position "
            f"{np.argmax(impossible)}: the perplexity is infinite",
            ImpossibleToken,
            stacklevel=2,
        )
        return math.inf
    try:
        return math.exp(_sum(nats) / np.size(nats))
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


def _sum(nats):
    nats = np.asarray(nats, np.float64)
    if (bad := np.isnan(nats)).any():
        raise ValueError(f"nats must be numbers, got NaN at position {int(np.argmax(bad))}")
    return float(nats.sum())

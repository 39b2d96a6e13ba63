"""An n-gram model's folder: what it holds, and what is asked of one before it is relied on."""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.models.folder import load_folder, save_folder
from minillm.models.ngram_config import NGramConfig
from minillm.models.ngram_level import Level
from minillm.models.ngram_smoothing import SMOOTHINGS

__all__ = ["load_ngram", "save_ngram"]


def save_ngram(model, folder):
    """Write an NGram's weights.safetensors and model.json into a folder.

    Raises
    ------
    UserError
        if the folder cannot be written to.
    """
    arrays: dict[str, np.ndarray] = {}
    for length, level in enumerate(model.levels, start=1):
        for name in ("keys", "p", "backoff"):
            arrays[f"{length}.{name}"] = getattr(level, name)
    config = dataclasses.asdict(model.config) | {"notes": model.notes}
    save_folder(folder, model.kind, config, model.tokenizer, arrays)


def load_ngram(folder, kind):
    """What an NGram is made of, from the folder that `save_ngram` wrote.

    Returns
    -------
    config, tokenizer, levels, notes : see NGram

    Raises
    ------
    UserError
        if it is missing, cut off, of another kind, or its parts do not belong together.
    """
    config, tokenizer, arrays = load_folder(folder, kind)
    try:
        notes = config.pop("notes", [])
        config = NGramConfig(**config)
        alone = config.smoothing in SMOOTHINGS and SMOOTHINGS[config.smoothing].alone
        levels: list[Level] = []
        for n in range(1, config.order + 1):
            keys, p, backoff = (arrays[f"{n}.{name}"] for name in ("keys", "p", "backoff"))
            _check(n, keys, p, backoff, levels, tokenizer.vocab_size)
            below = levels[-1] if levels and not alone else None
            levels.append(Level(keys, p, backoff, tokenizer.vocab_size, below))
        return config, tokenizer, levels, notes
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: not a whole n-gram model: {error}") from None


def _check(length, keys, p, backoff, levels, vocab_size):
    """What is relied on without looking: one key a token, sorted keys, prefixes that exist."""
    contexts = len(levels[-1].keys) if levels else 1
    if length == 1 and not np.array_equal(keys, np.arange(vocab_size)):
        raise ValueError(f"the n-grams of length 1 are not the {vocab_size} tokens")
    shapes = keys.shape == p.shape == (len(keys),) and backoff.shape == (contexts,)
    if not shapes or (keys.dtype, p.dtype, backoff.dtype) != (np.int64, np.float64, np.float64):
        raise ValueError(f"the numbers of length {length} are of the wrong shape or type")
    if np.any(np.diff(keys, prepend=-1) <= 0) or np.any(keys >= contexts * vocab_size):
        raise ValueError(f"the n-grams of length {length} are out of order or range")
    for numbers in (p, backoff):
        if not np.all(np.isfinite(numbers) & (numbers >= 0)):
            raise ValueError(f"the numbers of length {length} are no probabilities")

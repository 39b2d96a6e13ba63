"""Training skip-gram vectors: a batch of pairs moves the rows that it touches and no others.

A gradient of the whole tables would be nearly all zeros. So each batch takes its words' rows out of
the tables, numbers them anew, and hands these small tables to the model's loss, which knows no
difference. A word that a batch holds several times is one row there; the loss's backward adds its
gradients up, and the row moves once.

The rule is Adagrad (Duchi, Hazan & Singer 2011) where word2vec.c has plain SGD, one pair after the
other: in a batch of thousands "the" gets the sum of hundreds of gradients, a rare word one, and
Adagrad divides each number's step by what it has received so far.
"""

import dataclasses
import hashlib
import json
import numbers
from pathlib import Path

import numpy as np

from minillm.data.pairs import Noise, keep_probability, skip_gram_pairs
from minillm.errors import UserError, require, whole
from minillm.files import read_safetensors, save_safetensors
from minillm.models import skip_gram
from minillm.models.word_vectors import WordVectors
from minillm.optim import Adagrad
from minillm.training.batches import fingerprint
from minillm.training.progress import track
from minillm.tree import flatten, map_leaves, unflatten

__all__ = ["SkipGramRun", "SkipGramSettings", "train_skip_gram"]


@dataclasses.dataclass(frozen=True)
class SkipGramSettings:
    """How to train.

    n_embd C; window: the longest distance of a pair; negatives K: noise words for a pair;
    subsample: eq. 5's t; noise_power: of the counts; epochs: readings of the text; batch: pairs in
    an update; lr: Adagrad's, falling in a straight line to a hundredth; seed: decides all draws.
    """

    n_embd: int = 64
    window: int = 5
    negatives: int = 5
    subsample: float = 5e-4
    noise_power: float = 0.75
    epochs: int = 5
    batch: int = 4096
    lr: float = 0.2
    seed: int = 0

    def __post_init__(self):
        for name in ("n_embd", "window", "negatives", "epochs", "batch"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
        object.__setattr__(self, "seed", whole("seed", self.seed, 0))
        for name, expected in (
            ("subsample", "above 0"),  # infinity keeps every word
            ("lr", "above 0 and finite"),
            ("noise_power", "a number of at least 0"),
        ):
            value = getattr(self, name)
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            number = float(value) if real else np.nan
            fits = number > 0 or (number == 0 and name == "noise_power")
            require(name, value, fits and (number < np.inf or name == "subsample"), expected)
            object.__setattr__(self, name, number)


@dataclasses.dataclass(frozen=True)
class SkipGramRun:
    """What a training left.

    vectors : WordVectors
    losses : (epochs,) float, nats a pair, the mean over each reading of the text
    pairs : (epochs,) int, how many were read
    """

    vectors: WordVectors
    losses: np.ndarray
    pairs: np.ndarray


def train_skip_gram(text, settings=None, *, out=None, progress=True):
    """Learn a vector for each word of a text.

    Every draw comes from SeedSequence([seed, epoch]), so that a run which was stopped after an
    epoch and goes on is the run that never stopped.

    Parameters
    ----------
    text : NumberedWords
    settings : SkipGramSettings or None, the defaults
    out : folder or None; a file in it keeps the run after each epoch, and such a run is continued,
        or when it is done only read. The file is named after the settings and the text: others
        make a new one
    progress : bool, show a bar

    Returns
    -------
    SkipGramRun

    Raises
    ------
    UserError
        when no pair is left to learn of, the run's file is damaged or cannot be written.
    """
    settings = SkipGramSettings() if settings is None else settings
    params = skip_gram.init(
        skip_gram.SkipGramConfig(len(text.words), settings.n_embd),
        np.random.default_rng(np.random.SeedSequence([settings.seed, 0])),
    )
    squares = map_leaves(np.zeros_like, params)  # Adagrad's memory of each number
    losses, pairs = [], []
    path = None if out is None else Path(out) / _name(text, settings)
    if path is not None and path.exists():
        losses, pairs = _restore(path, params, squares, settings.epochs)
    keep = keep_probability(text.counts, settings.subsample)
    noise = Noise(text.counts, settings.noise_power)
    for epoch in range(len(losses), settings.epochs):
        rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 1 + epoch]))
        words, contexts = skip_gram_pairs(
            text.ids, text.document, keep, window=settings.window, rng=rng
        )
        if len(words) == 0:
            raise UserError(f"the text's {len(text.ids)} words make no pair: it is too short")
        starts, total = range(0, len(words), settings.batch), 0.0
        what = f"reading {epoch + 1} of {settings.epochs}"
        for start in track(starts, what) if progress else starts:
            part = slice(start, start + settings.batch)
            done = (epoch + start / len(words)) / settings.epochs
            batch = {"words": words[part], "contexts": contexts[part]}
            batch["negatives"] = noise.draw((len(batch["words"]), settings.negatives), rng)
            lr = settings.lr * (1 - 0.99 * done)
            total += update_touched_rows(params, squares, batch, lr) * len(batch["words"])
        losses.append(total / len(words))
        pairs.append(len(words))
        if path is not None:
            _save(path, params, squares, losses, pairs)
    vectors = WordVectors(
        text.words, params["word"]["weight"], params["context"]["weight"], text.counts
    )
    return SkipGramRun(vectors, np.array(losses), np.array(pairs))


def update_touched_rows(params, squares, batch, lr):
    """One step of Adagrad, in place, on the rows of both tables that a batch speaks of.

    Parameters
    ----------
    params, squares : {"word", "context"} of {"weight": (V, C)}
    batch : {"words": (N,), "contexts": (N,), "negatives": (N, K)}
    lr : float

    Returns
    -------
    loss : float, nats a pair, before the step
    """
    n, others = len(batch["words"]), np.column_stack([batch["contexts"], batch["negatives"]])
    touched, numbered = {}, {}  # the rows' numbers in the tables; the batch in numbers of its own
    touched["word"], numbered["words"] = np.unique(batch["words"], return_inverse=True)
    touched["context"], renumbered = np.unique(others, return_inverse=True)
    renumbered = renumbered.reshape(others.shape)
    numbered["contexts"], numbered["negatives"] = renumbered[:, 0], renumbered[:, 1:]

    def rows_of(tables):
        return {name: {"weight": tables[name]["weight"][at]} for name, at in touched.items()}

    rows, memory = rows_of(params), rows_of(squares)
    loss, cache = skip_gram.loss(rows, **numbered)
    # of the sum over the pairs: a pair moves its vectors alike in a large batch and in a small one
    grads = skip_gram.loss.backward(loss.dtype.type(n), cache)
    state = {"step": np.zeros((), np.int64), "square_sum": memory}
    Adagrad(lr).update(rows, grads, state)
    for name, at in touched.items():
        params[name]["weight"][at] = rows[name]["weight"]
        squares[name]["weight"][at] = memory[name]["weight"]
    return float(loss)


def _name(text, settings):
    """The name of a run's file: all that decides the run is in it."""
    about = [dataclasses.asdict(settings), text.words]
    about += [fingerprint(ids) for ids in (text.ids, text.document)]
    return f"skip-gram-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}.safetensors"


def _save(path, params, squares, losses, pairs):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path.parent}: {error.strerror}") from None
    arrays = flatten({"params": params, "squares": squares})
    save_safetensors(path, arrays | {"losses": np.array(losses), "pairs": np.array(pairs)})


def _restore(path, params, squares, epochs):
    """Fill both nests in place from a run's file; its losses and pairs, a number for each epoch."""
    arrays, here = read_safetensors(path), {"params": params, "squares": squares}
    try:
        losses, pairs = arrays.pop("losses"), arrays.pop("pairs")
        if losses.ndim != 1 or pairs.shape != losses.shape or len(losses) > epochs:
            raise ValueError(
                f"losses and pairs must have one number for each of at most {epochs} readings, "
                f"got {losses.shape} and {pairs.shape}"
            )
        if not all(np.all(np.isfinite(array)) for array in arrays.values()):
            raise ValueError("its numbers must be finite")
        map_leaves(np.copyto, here, unflatten(arrays, here))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is no run of skip-gram: {error}") from None
    return losses.tolist(), pairs.tolist()

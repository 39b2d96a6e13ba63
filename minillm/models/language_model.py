"""A neural language model in a person's hand: its kind, configuration, weights and tokenizer.

The mathematics is in gpt.py, recurrent.py and neural_ngram.py, as pure functions of the weights;
this class only keeps together what belongs together, in memory and on disk.
"""

import dataclasses
from typing import Any

import numpy as np

from minillm.errors import UserError
from minillm.models import gpt, gpt_step, gpt_step_of_ops, neural_ngram, recurrent
from minillm.models.baselines import Uniform, Unigram
from minillm.models.folder import describe_folder, load_folder, save_folder
from minillm.models.mixture import LinearMixture, LogLinearMixture
from minillm.models.ngram import NGram
from minillm.models.scoring import score_stream, score_windows
from minillm.ops._state import HOST, device
from minillm.tokenizers.base import check_ids
from minillm.tree import flatten, leaves, unflatten

__all__ = ["KINDS", "LanguageModel", "encode_prompt", "load_model"]

# kind -> (the module with init, forward and loss; its configuration)
KINDS: dict[str, tuple[Any, type]] = {
    "gpt": (gpt, gpt.GPTConfig),
    "rnn": (recurrent, recurrent.RecurrentConfig),
    "lstm": (recurrent, recurrent.RecurrentConfig),
    "gru": (recurrent, recurrent.RecurrentConfig),
    "neural-ngram": (neural_ngram, neural_ngram.NeuralNgramConfig),
}
# kind -> the module with start, step and reorder
STEPS: dict[str, Any] = {kind: module for kind, (module, _) in KINDS.items()} | {"gpt": gpt_step}
# ... for arrays that live elsewhere than in the computer's memory
STEPS_OF_OPS: dict[str, Any] = {"gpt": gpt_step_of_ops}
COUNTED: dict[str, Any] = {"ngram": NGram, "unigram": Unigram, "uniform": Uniform}
MIXED: dict[str, Any] = {m.kind: m for m in (LinearMixture, LogLinearMixture)}


class LanguageModel:
    """A GPT, RNN, LSTM, GRU or neural n-gram with the tokenizer that its weights belong to.

    Parameters
    ----------
    kind : str, a key of KINDS
    config : that kind's configuration
    params : nest of arrays, all float32 or all float64
    tokenizer : see minillm.tokenizers

    Raises
    ------
    UserError
        for an unknown kind, or weights, configuration and tokenizer that do not belong together.
    """

    def __init__(self, kind, config, params, tokenizer):
        self.module, _ = _module(kind)
        self.steps = STEPS[kind]
        self._moved = None
        if getattr(config, "cell", kind) != kind:
            raise UserError(f"the model is of kind {kind!r}, but its cell is {config.cell!r}")
        if tokenizer.vocab_size != config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, "
                f"but the model's embedding has {config.vocab_size}"
            )
        self.kind, self.config, self.params, self.tokenizer = kind, config, params, tokenizer

    @classmethod
    def create(cls, kind, tokenizer, *, seed=0, dtype=np.float32, **settings):
        """A new model with random weights.

        Parameters
        ----------
        kind : str, a key of KINDS
        tokenizer : gives the size of the vocabulary
        seed : int
        settings : fields of the kind's configuration

        Raises
        ------
        UserError
            for an unknown kind or setting, or one out of its range.
        """
        module, _ = _module(kind)
        config = _configure(kind, settings | {"vocab_size": tokenizer.vocab_size})
        params = module.init(config, np.random.default_rng(np.random.SeedSequence(seed)), dtype)
        return cls(kind, config, params, tokenizer)

    @property
    def vocab_size(self):
        return self.config.vocab_size

    @property
    def n_parameters(self):
        """How many numbers are learnt; a tied weight counts once."""
        return sum(leaf.size for _, leaf in leaves(self.params))

    @property
    def dtype(self):
        return next(leaf.dtype for _, leaf in leaves(self.params))

    @property
    def block(self):
        """The most tokens that can be read at once; None: no limit."""
        return getattr(self.config, "block_size", None)

    @property
    def reach(self):
        """How many tokens a prediction sees, where that is fixed whatever the block; else None."""
        return getattr(self.config, "reach", None)

    @property
    def context(self):
        """What each prediction of `score` sees, in words."""
        if self.reach is not None:
            return f"{self.reach} token{'s' if self.reach > 1 else ''} before it"
        if self.block is None:
            return "every token before it"
        least = self.block // 2 + 1
        return f"up to {self.block} tokens before it, at least {least} where the text has them"

    def score(self, ids):
        """How well each token of a stream is predicted from those before it.

        Parameters
        ----------
        ids : (N,) int; the first is predicted from the end token alone

        Returns
        -------
        nats : (N,) float64, -log p of each token
        correct : (N,) bool, the token was the model's likeliest

        Raises
        ------
        ValueError
            for an id outside the vocabulary.
        """
        ids = check_ids(ids, self.vocab_size)
        inputs = np.concatenate([[self.tokenizer.end_id], ids[:-1]])[: len(ids)]  # (N,)
        if self.block is None:
            return score_stream(self._forward_from, inputs, ids)
        return score_windows(self._forward, inputs, ids, self.block)

    def _forward(self, ids):
        place = device()
        params, ids = self._params_on(place), place.put(ids)
        return place.get(self.module.forward(params, ids=ids, config=self.config)[0])

    def _forward_from(self, ids, state):
        if self.reach is not None:  # the state is the ids that the next predictions still see
            seen = ids if state is None else np.concatenate([state, ids], axis=1)
            return self._forward(seen)[:, -ids.shape[1] :], seen[:, -self.reach :]
        place = device()
        params, ids = self._params_on(place), place.put(ids)
        (logits, state), _ = self.module.forward(params, ids=ids, config=self.config, state=state)
        return place.get(logits), state

    def _params_on(self, place):
        """The weights where the active backend computes; they are moved there once."""
        if place is HOST:
            return self.params
        if self._moved is None or self._moved[:2] != (place, id(self.params)):
            self._moved = place, id(self.params), place.put(self.params)
        return self._moved[2]

    def start(self, batch=1):
        """The past of `batch` texts of which nothing has been read yet, for `step`."""
        ids = None if self.block is None else np.empty((batch, 0), np.int32)
        return Past(self._start(batch), ids)

    def _start(self, batch):
        return self._steps().start(self._params_on(device()), self.config, batch)

    def _steps(self):
        return self.steps if device() is HOST else STEPS_OF_OPS.get(self.kind, self.steps)

    def step(self, past, ids):
        """Read ids (B, n), n >= 1, which changes `past`; the next token's logits, (B, V).

        A GPT whose block is full goes on with the last half block, read again.
        """
        if past.ids is not None:
            past.ids = np.concatenate([past.ids, ids], axis=1)  # (B, t)
            if past.ids.shape[1] > self.block:
                past.ids = past.ids[:, -max(1, self.block // 2) :]
                past.inner, ids = self._start(len(ids)), past.ids
        place = device()
        params, ids = self._params_on(place), place.put(ids)
        return place.get(self._steps().step(params, past.inner, ids=ids, config=self.config))

    def reorder(self, past, index):
        """The past whose rows are the rows `index` of `past`."""
        ids = None if past.ids is None else past.ids[index]
        return Past(self._steps().reorder(past.inner, device().put(index)), ids)

    def save(self, folder):
        """Write weights.safetensors and model.json into a folder, each whole or not at all.

        Raises
        ------
        UserError
            if the folder cannot be made or written to.
        """
        config = dataclasses.asdict(self.config)
        save_folder(folder, self.kind, config, self.tokenizer, flatten(self.params))

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote.

        Raises
        ------
        UserError
            if it is missing, cut off, of a kind that is no neural model, or its parts do not
            belong together.
        """
        kind = describe_folder(folder)["kind"]
        try:
            module, _ = _module(kind)
            saved, tokenizer, arrays = load_folder(folder, kind)
            config = _configure(kind, saved)
            dtypes = {array.dtype for array in arrays.values()}
            if dtypes not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
                found = ", ".join(sorted(map(str, dtypes))) or "none"
                raise UserError(f"weights must be all float32 or all float64, got {found}")
            like = module.init(config, np.random.default_rng(0))
            return cls(kind, config, unflatten(arrays, like), tokenizer)
        except ValueError as error:
            where = "" if str(folder) in str(error) else f"{folder}: "
            raise UserError(f"{where}{error}") from None


@dataclasses.dataclass
class Past:
    """What a model remembers of the texts it has read: `inner`, the module's own; for a GPT also
    the ids (B, t) in its block, to read again when it slides."""

    inner: Any
    ids: Any


def load_model(folder):
    """The model in a folder, of whatever kind model.json says.

    Raises
    ------
    UserError
        if it is missing, cut off, of an unknown kind, or its parts do not belong together.
    """
    kind = describe_folder(folder)["kind"]
    return (COUNTED | MIXED).get(kind, LanguageModel).load(folder)


def encode_prompt(tokenizer, text):
    """The ids of a prompt, (N,) int32.

    Raises
    ------
    UserError
        naming the characters that the tokenizer has never seen.
    """
    ids = tokenizer.encode(text)
    if tokenizer.unknown_id is None or not np.any(ids == tokenizer.unknown_id):
        return ids
    unknown = [c for c in dict.fromkeys(text) if tokenizer.unknown_id in tokenizer.encode(c)]
    named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5])
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    raise UserError(f"the prompt has characters that the model has never seen: {named}{more}")


def _module(kind):
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"unknown model {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind]


def _configure(kind, settings):
    """The configuration of a kind from a dict of its fields; all that is wrong is a UserError."""
    _, config_class = _module(kind)
    known = {field.name for field in dataclasses.fields(config_class)}
    if "cell" in known:
        settings = {"cell": kind} | settings
    if extra := sorted(settings.keys() - known):
        names = ", ".join(sorted(known))
        raise UserError(f"{kind} has no setting {extra[0]!r}; there are: {names}")
    try:
        return config_class(**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind}: {error}") from None

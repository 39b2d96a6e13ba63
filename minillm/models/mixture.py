"""Several models as one: their probabilities averaged, or their logarithms.

The models share a tokenizer and may be of any kind, n-gram or neural: all that is asked of them is
the distribution of the next token. How the weights are found is in mixture_weights.py.

Left out: weights that depend on the context, as Jelinek-Mercer's buckets do.
"""

from pathlib import Path

import numpy as np

from minillm.errors import UserError
from minillm.models.folder import load_folder, save_folder
from minillm.models.mixture_weights import linear_weights, log_linear_weights
from minillm.models.next_token import NextToken, distributions, log_softmax
from minillm.tokenizers.base import check_ids

__all__ = ["LinearMixture", "LogLinearMixture"]


class _Mixture(NextToken):
    """What both have in common.

    Parameters
    ----------
    models : list of at least one model with `start`, `step`, `reorder`, `score`, `tokenizer`
    weights : (K,) floats >= 0, one a model

    Attributes
    ----------
    notes : list of str, what was to be said about finding the weights

    Raises
    ------
    UserError
        for models over different tokenizers or that give scores rather than probabilities, and for
        weights that do not fit.
    """

    kind: str
    block = None

    def __init__(self, models, weights, notes=()):
        self.models, self.weights = list(models), np.array(weights, float)
        self.notes = list(notes)
        check_models(self.models)
        k, w = len(self.models), self.weights
        if w.shape != (k,) or not np.all(np.isfinite(w) & (w >= 0)):
            raise UserError(f"weights must be {k} numbers of at least 0, got {w.tolist()}")
        self.tokenizer = self.models[0].tokenizer
        self.vocab_size = self.tokenizer.vocab_size

    @property
    def n_parameters(self):
        """Those of all its models, and the weights."""
        return sum(m.n_parameters for m in self.models) + len(self.weights)

    @property
    def context(self):
        return ", or ".join(dict.fromkeys(m.context for m in self.models))

    def mix(self, ps):
        """p (..., V) of the mixture from those of its models, a list of K."""
        raise NotImplementedError

    def next_distribution(self, context=()):
        """The probability of every token of the vocabulary after `context` (N,), float64 (V,).

        With no context a neural model begins a document, as in generation.
        """
        context = check_ids(context, self.vocab_size)
        return self.mix([_next_p(m, context) for m in self.models])

    def start(self, batch=1):
        """The past of `batch` texts of which nothing has been read, for `step`."""
        return [m.start(batch) for m in self.models]

    def step(self, past, ids):
        """Read ids (B, n), n >= 1, which changes `past`; the next token's log p, (B, V)."""
        parts = zip(self.models, past, strict=True)
        p = self.mix([np.exp(log_softmax(m.step(past, ids))) for m, past in parts])
        with np.errstate(divide="ignore"):
            return np.log(p)

    def reorder(self, past, index):
        """The past whose rows are the rows `index` of `past`."""
        return [m.reorder(p, index) for m, p in zip(self.models, past, strict=True)]

    def distributions(self, ids, size):
        """The distributions that the tokens of a stream stand in: blocks (n, V) of p."""
        for blocks in zip(*(distributions(m, ids) for m in self.models), strict=True):
            yield self.mix(blocks)

    def score(self, ids):
        """Each token's -log p, and whether it was the likeliest: (N,) each.

        Every model is asked for the whole distribution of each token, one after the other.
        """
        ids = check_ids(ids, self.vocab_size)
        p, correct, begin = np.empty(len(ids)), np.empty(len(ids), bool), 0
        for block in distributions(self, ids):
            end = begin + len(block)
            target = ids[begin:end]
            p[begin:end] = block[np.arange(len(target)), target]
            correct[begin:end] = block.argmax(1) == target
            begin = end
        with np.errstate(divide="ignore"):
            return -np.log(p), correct

    def save(self, folder):
        """Write a folder with the weights, and one for each model in it.

        Raises
        ------
        UserError
            if it cannot be written to.
        """
        for i, model in enumerate(self.models):
            model.save(Path(folder) / f"model-{i}")
        save_folder(
            folder, self.kind, {"notes": self.notes}, self.tokenizer, {"weights": self.weights}
        )

    @classmethod
    def load(cls, folder):
        """The mixture that `save` wrote.

        Raises
        ------
        UserError
            if it is missing, damaged, of another kind, or its parts do not belong together.
        """
        from minillm.models.language_model import load_model  # which knows this kind in its turn

        config, _, arrays = load_folder(folder, cls.kind)
        try:
            weights = arrays["weights"]
            models = [load_model(Path(folder) / f"model-{i}") for i in range(len(weights))]
            return cls(models, weights, config.get("notes", []))
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder}: not a whole mixture: {error}") from None


class LinearMixture(_Mixture):
    """The average of the models' probabilities (Jelinek & Mercer 1980).

    Equation: p(w | c) = sum over i of l_i p_i(w | c), with l_i >= 0 that sum to 1
    """

    kind = "linear-mixture"

    def __init__(self, models, weights, notes=()):
        super().__init__(models, weights, notes)
        if abs(self.weights.sum() - 1) > 1e-9:
            raise UserError(f"the weights must sum to 1, got {self.weights.sum()}")

    @classmethod
    def fit(cls, models, held_out):
        """The mixture with the weights that EM finds on held-out ids (T,)."""
        weights, notes = linear_weights(check_models(models), np.asarray(held_out))
        return cls(models, weights, notes)

    def mix(self, ps):
        return sum(w * p for w, p in zip(self.weights, ps, strict=True))


class LogLinearMixture(_Mixture):
    """The weighted geometric mean of the models' probabilities, normalised (Klakow 1998).

    Equation: p(w | c) = prod over i of p_i(w | c)^l_i / Z(c), with l_i >= 0

    Z(c) is the sum over the whole vocabulary, at every step. A token that one model with a weight
    thinks impossible is; where that is every token, all are equally likely.
    """

    kind = "log-linear-mixture"

    @classmethod
    def fit(cls, models, held_out):
        """The mixture with the weights that make held-out ids (T,) likeliest."""
        weights, notes = log_linear_weights(check_models(models), np.asarray(held_out))
        return cls(models, weights, notes)

    def mix(self, ps):
        total = np.zeros(np.shape(ps[0]))
        for w, p in zip(self.weights, ps, strict=True):
            if w:  # 0 times -inf is no number
                with np.errstate(divide="ignore"):
                    total += w * np.log(p)
        return np.exp(log_softmax(total))


def check_models(models):
    """Refuse models that cannot be mixed; returns them."""
    if not models:
        raise UserError("a mixture needs at least one model")
    first = models[0].tokenizer.to_dict()
    for i, model in enumerate(models):
        if model.tokenizer is not models[0].tokenizer and model.tokenizer.to_dict() != first:
            raise UserError(f"model {i} of the mixture has another tokenizer than model 0")
        if not getattr(model, "is_distribution", True):
            raise UserError(f"model {i} of the mixture gives scores, not probabilities")
    return models


def _next_p(model, context):
    if hasattr(model, "next_distribution"):
        return model.next_distribution(context)
    context = context if len(context) else np.array([model.tokenizer.end_id])
    return np.exp(log_softmax(model.step(model.start(1), context[None])[0]))

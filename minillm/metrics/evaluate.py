"""One model on one text: the row of the table in which all models stand."""

import dataclasses
import math

import numpy as np

from minillm.data.batches import encode_documents
from minillm.errors import UserError
from minillm.metrics.language import bits_per_byte, checked_nats, exponential
from minillm.tokenizers.base import utf8

__all__ = ["Evaluation", "Impossible", "Overflow", "evaluate"]

SHOWN = 5  # tokens of the context that a token is named with


@dataclasses.dataclass(frozen=True)
class Overflow:
    """The token that is worst where no token is impossible, but perplexity is beyond float64.

    Attributes
    ----------
    nats : float, what it needs: -log p
    position, token, text, before : as `Impossible` has them
    """

    nats: float
    position: int
    token: int
    text: str
    before: str

    def __str__(self):
        return (
            f"the perplexity is beyond float64: the worst token, {_name(self)}, "
            f"needs {self.nats:,.1f} nats"
        )


@dataclasses.dataclass(frozen=True)
class Impossible:
    """The tokens of a text that a model gives probability 0, by which its perplexity is infinite.

    Attributes
    ----------
    count : int >= 1, how many there are
    position : int, of the first in the stream of ids, from 0
    token : int, the first one's id
    text : str, how the first is shown
    before : str, how the tokens just before it in its document are shown
    """

    count: int
    position: int
    token: int
    text: str
    before: str

    def __str__(self):
        if self.count == 1:
            return f"1 token is impossible to the model: {_name(self)}"
        return f"{self.count:,} tokens are impossible to the model, the first {_name(self)}"


def _name(found):
    where = f"after {found.before!r}" if found.before else "at a document's start"
    return f"{found.text!r} (id {found.token}) at position {found.position:,}, {where}"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Attributes
    ----------
    bits_per_byte : float; None ("n/a") if the tokenizer is lossy: its ids do not tell this text
    perplexity, nats_per_token, accuracy : float, by token; the first two NaN for a model that gives
        scores rather than probabilities
    tokens : int, document ends included
    bytes : int, of the text's UTF-8
    context : str, what each prediction sees
    impossible : Impossible, which tokens make the perplexity infinite; None if none
    is_distribution : bool, False for a model that gives scores
    overflow : Overflow, where the perplexity is infinite for want of range only; else None
    """

    bits_per_byte: float | None
    perplexity: float
    nats_per_token: float
    accuracy: float
    tokens: int
    bytes: int
    context: str
    impossible: Impossible | None = None
    is_distribution: bool = True
    overflow: Overflow | None = None

    @property
    def why_infinite(self):
        """What made the perplexity infinite, Impossible or Overflow; None where it is finite."""
        return self.impossible or self.overflow

    def __str__(self):
        bpb = "n/a" if self.bits_per_byte is None else f"{self.bits_per_byte:.3f}"
        digits = ".2f" if self.perplexity < 1e9 else ".3e"
        numbers = f"{bpb} bits per byte, perplexity {self.perplexity:{digits}}"
        if not self.is_distribution:
            numbers = "no bits or perplexity, for the model gives scores and not probabilities"
        why = f". {self.why_infinite}" if self.why_infinite else ""
        return (
            f"{numbers}, accuracy {self.accuracy:.1%} over {self.tokens:,} tokens "
            f"({self.bytes:,} bytes); each sees {self.context}{why}"
        )


def evaluate(model, documents, *, more_bytes=0):
    """Score every token of the documents, each followed by the end id, as one stream.

    A tokenizer that is lossy in general has bits per byte on a text that it does give back.

    Parameters
    ----------
    model : with .tokenizer, .context and .score(ids) -> (nats (N,), correct (N,)); it may have
        .is_distribution
    documents : list of Document
    more_bytes : int, bytes of the text that the documents' ends stand for: the newlines, where
        each line is a document

    Raises
    ------
    UserError
        if the documents hold no text.
    """
    n_bytes = sum(len(utf8(d.text)) for d in documents)
    if n_bytes == 0:
        raise UserError("there is no text to evaluate on")
    n_bytes += more_bytes
    tokenizer = model.tokenizer
    ids = encode_documents(documents, tokenizer)
    nats, correct = model.score(ids)
    common = {
        "accuracy": float(correct.mean()),
        "tokens": len(nats),
        "bytes": n_bytes,
        "context": model.context,
    }
    if not getattr(model, "is_distribution", True):
        return Evaluation(None, math.nan, math.nan, **common, is_distribution=False)
    lost = sum(tokenizer.unknown_bytes(d.text) for d in documents)
    mean = float(checked_nats(nats).mean())
    impossible = overflow = None
    if exponential(mean) == math.inf:
        worst = int(np.argmax(nats))  # the first of the impossible ones, if there are any
        count, named = int(np.isposinf(nats).sum()), _named(ids, worst, tokenizer)
        impossible = Impossible(count, **named) if count else None
        overflow = None if count else Overflow(float(nats[worst]), **named)
    told = tokenizer.lossless or all(_is_told(tokenizer, d.text) for d in documents)
    return Evaluation(
        bits_per_byte=bits_per_byte(nats, n_bytes, lost) if told else None,
        perplexity=exponential(mean),
        nats_per_token=mean,
        **common,
        impossible=impossible,
        overflow=overflow,
    )


def _is_told(tokenizer, text):
    """Whether a text can be had back from its ids, unknown pieces aside."""
    ids, spans = tokenizer.encode_with_offsets(text)
    if tokenizer.unknown_id is None:
        return tokenizer.decode(ids) == text
    mark, pieces, start = tokenizer.decode([tokenizer.unknown_id]), [], 0
    for low, high in spans[ids == tokenizer.unknown_id].tolist():
        pieces += [text[start:low], mark]
        start = high
    return tokenizer.decode(ids) == "".join([*pieces, text[start:]])


def _named(ids, place, tokenizer):
    """Where and what a token is, as Impossible and Overflow name it."""
    ends = np.flatnonzero(ids[:place] == tokenizer.end_id)
    begin = max(place - SHOWN, int(ends[-1]) + 1 if len(ends) else 0)
    parts = slice(begin, place), slice(place, place + 1)
    before, text = (tokenizer.decode(ids[part], special=True) for part in parts)
    return {"position": place, "token": int(ids[place]), "text": text, "before": before}

"""One model on one text: the row of the table in which all models stand."""

import dataclasses
import math

import numpy as np

from minillm.data.batches import encode_documents
from minillm.errors import UserError
from minillm.metrics.language import bits_per_byte, perplexity
from minillm.tokenizers.base import utf8

__all__ = ["Evaluation", "Impossible", "evaluate"]

SHOWN = 5  # tokens of the context that an impossible token is named with


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
        where = f"after {self.before!r}" if self.before else "at a document's start"
        first = f"{self.text!r} (id {self.token}) at position {self.position:,}, {where}"
        if self.count == 1:
            return f"1 token is impossible to the model: {first}"
        return f"{self.count:,} tokens are impossible to the model, the first {first}"


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

    def __str__(self):
        bpb = "n/a" if self.bits_per_byte is None else f"{self.bits_per_byte:.3f}"
        numbers = f"{bpb} bits per byte, perplexity {self.perplexity:.2f}"
        if not self.is_distribution:
            numbers = "no bits or perplexity, for the model gives scores and not probabilities"
        why = f". {self.impossible}" if self.impossible else ""
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
    impossible = _impossible(ids, nats, tokenizer)
    told = tokenizer.lossless or all(_is_told(tokenizer, d.text) for d in documents)
    return Evaluation(
        bits_per_byte=bits_per_byte(nats, n_bytes, lost) if told else None,
        perplexity=math.inf if impossible else perplexity(nats),
        nats_per_token=float(nats.mean(dtype="float64")),
        **common,
        impossible=impossible,
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


def _impossible(ids, nats, tokenizer):
    infinite = np.flatnonzero(np.isposinf(nats))
    if len(infinite) == 0:
        return None
    first = int(infinite[0])
    ends = np.flatnonzero(ids[:first] == tokenizer.end_id)
    begin = max(first - SHOWN, int(ends[-1]) + 1 if len(ends) else 0)
    parts = slice(begin, first), slice(first, first + 1)
    before, text = (tokenizer.decode(ids[part], special=True) for part in parts)
    return Impossible(len(infinite), first, int(ids[first]), text, before)

"""One model on one text: the row of the table in which all models stand."""

import dataclasses

from minillm.data.batches import encode_documents
from minillm.errors import UserError
from minillm.metrics.language import bits_per_byte, perplexity
from minillm.tokenizers.base import utf8

__all__ = ["Evaluation", "evaluate"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Attributes
    ----------
    bits_per_byte : float; None ("n/a") if the tokenizer is lossy: its ids do not tell the text
    perplexity, nats_per_token, accuracy : float, by token
    tokens : int, document ends included
    bytes : int, of the text's UTF-8
    context : str, what each prediction sees
    """

    bits_per_byte: float | None
    perplexity: float
    nats_per_token: float
    accuracy: float
    tokens: int
    bytes: int
    context: str

    def __str__(self):
        bpb = "n/a" if self.bits_per_byte is None else f"{self.bits_per_byte:.3f}"
        return (
            f"{bpb} bits per byte, perplexity {self.perplexity:.2f}, accuracy {self.accuracy:.1%} "
            f"over {self.tokens:,} tokens ({self.bytes:,} bytes); each sees {self.context}"
        )


def evaluate(model, documents):
    """Score every token of the documents, each followed by the end id, as one stream.

    Parameters
    ----------
    model : with .tokenizer, .context and .score(ids) -> (nats (N,), correct (N,))
    documents : list of Document

    Raises
    ------
    UserError
        if the documents hold no text.
    """
    n_bytes = sum(len(utf8(d.text)) for d in documents)
    if n_bytes == 0:
        raise UserError("there is no text to evaluate on")
    tokenizer = model.tokenizer
    nats, correct = model.score(encode_documents(documents, tokenizer))
    lost = sum(tokenizer.unknown_bytes(d.text) for d in documents)
    return Evaluation(
        bits_per_byte=bits_per_byte(nats, n_bytes, lost) if tokenizer.lossless else None,
        perplexity=perplexity(nats),
        nats_per_token=float(nats.mean(dtype="float64")),
        accuracy=float(correct.mean()),
        tokens=len(nats),
        bytes=n_bytes,
        context=model.context,
    )

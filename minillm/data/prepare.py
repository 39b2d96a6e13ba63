"""From the name of a corpus to the ids that a model is trained on."""

import dataclasses
from typing import Any

import numpy as np

from minillm.data.batches import encode_documents
from minillm.data.corpus import Corpus, Document, load_corpus
from minillm.data.split import Split, split_documents
from minillm.errors import UserError
from minillm.lines import lines_of
from minillm.tokenizers import NAMES, load_tokenizer_file, make_tokenizer

__all__ = ["Prepared", "by_line", "name_of", "prepare", "size_note", "split_lines"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A corpus, split, with a tokenizer that was trained on its training part alone.

    train : int32 (N,), each document followed by the end id
    validation : int32 (M,), or None where the split leaves none
    asked_size : int or None, the vocabulary that was wished for
    """

    corpus: Corpus
    split: Split
    tokenizer: Any
    train: np.ndarray
    validation: np.ndarray | None
    asked_size: int | None = None

    def describe(self):
        """Where the text comes from, how it is split, and into how many tokens it is cut."""
        size = f"a vocabulary of {self.tokenizer.vocab_size:,}"
        if note := size_note(self.tokenizer, self.asked_size):
            size += f"; {note}"
        return f"{self.corpus}\n{self.split}\n{name_of(self.tokenizer)} tokenizer: {size}"


def name_of(tokenizer):
    """The name that a tokenizer was made by: its kind, or of words by white space, whitespace."""
    return "whitespace" if getattr(tokenizer, "split", None) == "whitespace" else tokenizer.kind


def size_note(tokenizer, asked):
    """A sentence where the vocabulary is not of the size that was asked for; None where it is."""
    if asked is None or asked == tokenizer.vocab_size:
        return None
    if tokenizer.vocab_size < asked:
        return f"asked for {asked:,}, but the text has no more"
    return f"asked for {asked:,}, but the characters of the text alone are more"


def prepare(
    source="topics",
    *,
    tokenizer="char",
    fractions=(0.8, 0.1, 0.1),
    vocab_size=None,
    lines=False,
    progress=None,
):
    """Read a corpus, split it, train a tokenizer on the training part, and encode.

    Parameters
    ----------
    source : see load_corpus
    tokenizer : str, in minillm.tokenizers.NAMES; or the path of a tokenizer that exists, see
        minillm.tokenizers.load_tokenizer_file
    fractions : three shares of the characters, see split_documents
    vocab_size : int or None, of a tokenizer that is trained and has a size to choose
    lines : bool, every line is a document of its own, as KenLM reads a text
    progress : function of (done, total), told by a tokenizer that takes long to train

    Raises
    ------
    UserError
        for a text that cannot be read, an unknown tokenizer, bad fractions, or a training part
        without a character.
    """
    corpus = load_corpus(source)
    if lines:
        corpus = dataclasses.replace(corpus, documents=by_line(corpus.documents))
    split = (split_lines if lines else split_documents)(corpus.documents, fractions)
    if not split.train:
        raise UserError(f"the training part is empty: {corpus}, split by {tuple(fractions)}")
    made = _tokenizer(tokenizer, [d.text for d in split.train], vocab_size, progress)
    validation = encode_documents(split.validation, made) if split.validation else None
    return Prepared(
        corpus, split, made, encode_documents(split.train, made), validation, vocab_size
    )


def by_line(documents):
    """Every line of the documents as a document of its own, without its newline."""
    found = []
    for document in documents:
        for number, line in enumerate(lines_of(document.text), start=1):
            found.append(Document(f"{document.name}:{number}", line))
    return found


def split_lines(documents, fractions):
    """As `split_documents`, but no line is cut in two, and empty ones stay."""
    split_documents([], fractions)  # says what is wrong with the fractions
    ends = np.cumsum([len(d.text) + 1 for d in documents])  # (N,), newlines counted
    edges = np.cumsum([0.0, *fractions]) * (ends[-1] if len(ends) else 0)
    first, second = np.searchsorted(ends, edges[1:3] + 0.5, side="right")
    return Split(documents[:first], documents[first:second], documents[second:])


def _tokenizer(tokenizer, texts, vocab_size, progress):
    if tokenizer not in NAMES:
        if vocab_size is not None:
            raise UserError(f"{tokenizer} has its vocabulary already: it takes no vocab_size")
        return load_tokenizer_file(tokenizer)
    return make_tokenizer(tokenizer, texts, vocab_size=vocab_size, progress=progress)

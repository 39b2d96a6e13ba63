"""From the name of a corpus to the ids that a model is trained on."""

import dataclasses
from typing import Any

import numpy as np

from minillm.data.batches import encode_documents
from minillm.data.corpus import Corpus, load_corpus
from minillm.data.split import Split, split_documents
from minillm.errors import UserError
from minillm.tokenizers import make_tokenizer

__all__ = ["Prepared", "prepare"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A corpus, split, with a tokenizer that was trained on its training part alone.

    train : int32 (N,), each document followed by the end id
    validation : int32 (M,), or None where the split leaves none
    """

    corpus: Corpus
    split: Split
    tokenizer: Any
    train: np.ndarray
    validation: np.ndarray | None

    def describe(self):
        """Where the text comes from, how it is split, and into how many tokens it is cut."""
        tokenizer = f"{self.tokenizer.kind} tokenizer: a vocabulary of {self.tokenizer.vocab_size}"
        return f"{self.corpus}\n{self.split}\n{tokenizer}"


def prepare(source="topics", *, tokenizer="char", fractions=(0.8, 0.1, 0.1)):
    """Read a corpus, split it, train a tokenizer on the training part, and encode.

    Parameters
    ----------
    source : see load_corpus
    tokenizer : str, a key of minillm.tokenizers.KINDS
    fractions : three shares of the characters, see split_documents

    Raises
    ------
    UserError
        for a text that cannot be read, an unknown tokenizer, bad fractions, or a training part
        without a character.
    """
    corpus = load_corpus(source)
    split = split_documents(corpus.documents, fractions)
    if not split.train:
        raise UserError(f"the training part is empty: {corpus}, split by {tuple(fractions)}")
    made = make_tokenizer(tokenizer, "".join(d.text for d in split.train))
    validation = encode_documents(split.validation, made) if split.validation else None
    return Prepared(corpus, split, made, encode_documents(split.train, made), validation)

"""Corpora, splits and batches."""

from minillm.data.batches import RandomBlocks, Streams, encode_documents
from minillm.data.corpus import Corpus, Document, load_corpus
from minillm.data.split import Split, split_documents

__all__ = [
    "Corpus",
    "Document",
    "RandomBlocks",
    "Split",
    "Streams",
    "encode_documents",
    "load_corpus",
    "split_documents",
]

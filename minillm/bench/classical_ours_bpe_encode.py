"""Our side of `minillm bench classical`: byte-level BPE, text to ids.

The text: the standard library's source, tests included, by path. Both sides have the merges that we
learn of its first megabytes, so they give the same ids. Each side makes what its users get: we an
int32 array, tiktoken a list. One piece is a megabyte of text.
"""

from minillm.bench.classical_ours_bpe_train import library_texts
from minillm.tokenizers.bpe import BPETokenizer

__all__ = ["cold", "cut", "train", "warm"]


def train(n_merges, pattern, megabytes=4):
    """A tokenizer of n_merges merges, learned of some of the library."""
    texts = library_texts(megabytes)
    return BPETokenizer.train(texts, vocab_size=257 + n_merges, pattern=pattern)


def cut(size, megabytes):
    """The library's text in strings of `size` characters, and how many megabytes they have."""
    text = "".join(library_texts(megabytes))
    pieces = [text[i : i + size] for i in range(0, len(text) - size + 1, size)]
    return pieces, sum(len(piece.encode()) for piece in pieces) / 1e6


def warm(threads, *, size, megabytes, n_merges, pattern):
    """Strings of `size` characters, one call each; all their words were seen before."""
    tokenizer = train(n_merges, pattern)
    texts, pieces = cut(size, megabytes)
    return lambda: [tokenizer.encode(text) for text in texts], pieces


def cold(threads, *, megabytes, n_merges, pattern):
    """Files as they are, by a tokenizer that has seen no word yet."""
    made = train(n_merges, pattern)
    texts = library_texts(megabytes)

    def work():
        made._encoder.forget()
        made.encode_batch(texts)

    return work, sum(len(text.encode()) for text in texts) / 1e6

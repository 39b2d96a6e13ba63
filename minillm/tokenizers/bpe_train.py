"""Training byte-level BPE: the merges of `bpe_simple.train_simple`, fast."""

from minillm.tokenizers.bpe_simple import train_simple

__all__ = ["train_merges"]


def train_merges(texts, *, n_merges, pattern="gpt2", min_frequency=0, threads=None, progress=None):
    """The merges learned from a text, or several in turn: a list of (bytes, bytes), first first.

    Fewer than n_merges where the words run out of pairs. Tokens' bytes are all different: the
    vocabulary is the 256 bytes and what each merge makes.
    """
    return train_simple(texts, n_merges=n_merges, pattern=pattern, min_frequency=min_frequency)

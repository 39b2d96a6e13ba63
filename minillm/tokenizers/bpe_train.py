"""Training byte-level BPE: the merges of `bpe_simple.train_simple`, without counting anew.

The words are counted in bpe_words.py, the pairs of neighbours in them in bpe_pairs.py.

Left out: Hugging Face's `max_token_length` and `limit_alphabet`. Of special tokens nothing is known
here; over there one whose name a merge happens to spell is the same token as that merge makes.
"""

from minillm.tokenizers.bpe_pairs import Pairs
from minillm.tokenizers.bpe_simple import BYTE_ORDER
from minillm.tokenizers.bpe_words import count_words

__all__ = ["learn_merges", "train_merges"]


def train_merges(texts, *, n_merges, pattern="gpt2", min_frequency=0, threads=1, progress=None):
    """Learn the merges of byte-level BPE (Sennrich, Haddow & Birch 2016, algorithm 1).

    Each merge joins the pair of tokens that is most frequent within words; of equals the one whose
    first part, and then whose second part, came earlier into the vocabulary, which begins with the
    bytes in BYTE_ORDER. So does Hugging Face's `BpeTrainer` with the alphabet of `ByteLevel`.

    Parameters
    ----------
    texts : str, or iterable of str that is read once; words do not reach from one into the next
    n_merges : int, how many to learn; fewer where the words hold no more pairs
    pattern : str, one of `pretokenize.PATTERNS`
    min_frequency : int, a pair that occurs less often is not merged
    threads : int, how many batches of text are counted at once
    progress : function progress(done, total), or None; total is None while the text is read

    Returns
    -------
    merges : list of (bytes, bytes); the tokens are the 256 bytes and what each merge joins, and no
        two are the same

    Raises
    ------
    ValueError
        for an unknown pattern, or a negative number.
    UserError
        for a lone surrogate in a text.
    """
    if n_merges < 0 or min_frequency < 0:
        raise ValueError(
            f"n_merges and min_frequency must not be negative, got {n_merges} and {min_frequency}"
        )
    words = count_words(texts, pattern, threads=threads, progress=progress)
    return learn_merges(words, n_merges, min_frequency, progress)


def learn_merges(words, n_merges, min_frequency=0, progress=None):
    """The merges of some `Words`, see `train_merges`."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges: list[tuple[bytes, bytes]] = []
    pairs = Pairs(words, min(n_merges, int(words.size.sum())))  # no word has more than its bytes
    while len(merges) < n_merges:
        pair = pairs.best()
        if pairs.count[pair] < max(min_frequency, 1):
            break
        left, right = pairs.merge(pair)
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        if progress and len(merges) % 100 == 0:
            progress(len(merges), n_merges)
    return merges

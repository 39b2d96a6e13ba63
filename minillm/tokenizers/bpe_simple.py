"""Byte-level BPE in plain Python: what the fast trainer and encoder are tested against.

Sennrich, Haddow & Birch 2016 (arXiv:1508.07909, algorithm 1), over bytes as GPT-2 (Radford et al.
2019). The order of equals is that of Hugging Face's `tokenizers`.
"""

from collections import Counter
from itertools import pairwise

from minillm.tokenizers.base import documents, utf8
from minillm.tokenizers.pretokenize import split_simple

__all__ = ["BYTE_ORDER", "decode_simple", "encode_simple", "learn_merges", "train_simple"]

# The order of the 256 bytes in a vocabulary: those that GPT-2 shows as themselves, then the others.
_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = _SHOWN + [byte for byte in range(256) if byte not in _SHOWN]


def train_simple(texts, *, n_merges, pattern="gpt2", min_frequency=0):
    """The merges of a text, or of several in turn, a list of (bytes, bytes); see `learn_merges`."""
    words = Counter(utf8(word) for text in documents(texts) for word in split_simple(text, pattern))
    return learn_merges(words, n_merges=n_merges, min_frequency=min_frequency)


def learn_merges(words, *, n_merges, min_frequency=0):
    """Begin with bytes, and join the best pair of neighbours again and again.

    Parameters
    ----------
    words : dict, bytes -> how often the word stands in the text
    n_merges : int, how many merges at most; fewer where no pair is left
    min_frequency : int, how often a pair must stand in the text to be joined

    Returns
    -------
    merges : list of (bytes, bytes), in the order in which they were made
    """
    tokens = {word: split_bytes(word) for word in words}
    age = {bytes([byte]): place for place, byte in enumerate(BYTE_ORDER)}
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges:
        pairs = count_pairs(tokens, words)
        if not pairs:
            break
        best = best_pair(pairs, age)
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        age[best[0] + best[1]] = len(age)
        tokens = {word: join_pair(parts, best) for word, parts in tokens.items()}
    return merges


def split_bytes(word):
    """The bytes of a word, each as bytes of length 1."""
    return [bytes([byte]) for byte in word]


def count_pairs(tokens, words):
    """How often each pair of neighbours stands in the text.

    Parameters
    ----------
    tokens : dict, word -> its tokens so far, a list of bytes
    words : dict, word -> how often it stands in the text

    Returns
    -------
    pairs : Counter, (bytes, bytes) -> count
    """
    pairs: Counter[tuple[bytes, bytes]] = Counter()
    for word, parts in tokens.items():
        for pair in pairwise(parts):
            pairs[pair] += words[word]
    return pairs


def best_pair(pairs, age):
    """The most frequent pair; of equals the one whose first, and then whose second part is older.

    Parameters
    ----------
    pairs : dict, (bytes, bytes) -> count
    age : dict, token -> its place in the vocabulary, the oldest first
    """
    return max(pairs, key=lambda pair: (pairs[pair], -age[pair[0]], -age[pair[1]]))


def join_pair(parts, pair):
    """The tokens of a word with the pair joined wherever it stands, from the left."""
    result, i = [], 0
    while i < len(parts):
        size = 2 if (*parts[i : i + 2],) == pair else 1
        result.append(b"".join(parts[i : i + size]))
        i += size
    return result


def encode_simple(text, merges, *, pattern="gpt2"):
    """The tokens of a text, a list of bytes: its words' one after the other."""
    return [
        part for word in split_simple(text, pattern) for part in encode_word(utf8(word), merges)
    ]


def encode_word(word, merges):
    """The tokens of a word's bytes: the earliest merge that fits, wherever it fits, and again.

    Parameters
    ----------
    word : bytes
    merges : list of (bytes, bytes), as they were learned
    """
    rank = {pair: place for place, pair in enumerate(merges)}
    parts = split_bytes(word)
    while found := [p for p in pairwise(parts) if p in rank]:
        parts = join_pair(parts, min(found, key=rank.__getitem__))
    return parts


def decode_simple(tokens):
    """The text of tokens, a list of bytes; what is no UTF-8 shows as U+FFFD."""
    return b"".join(tokens).decode(errors="replace")

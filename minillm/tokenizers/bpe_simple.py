"""Byte-level BPE in plain Python: what the fast trainer and encoder are tested against.

Sennrich, Haddow & Birch 2016 (arXiv:1508.07909, algorithm 1), over bytes as GPT-2 (Radford et al.
2019). The order of equals is that of Hugging Face's `tokenizers`.
"""

from collections import Counter
from itertools import pairwise

from minillm.tokenizers.base import documents, utf8
from minillm.tokenizers.pretokenize import split_simple

__all__ = ["BYTE_ORDER", "encode_simple", "train_simple"]

# The order of the 256 bytes in a vocabulary: those that GPT-2 shows as themselves, then the others.
_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_ORDER = _SHOWN + [byte for byte in range(256) if byte not in _SHOWN]


def train_simple(texts, *, n_merges, pattern="gpt2", min_frequency=0):
    """The merges of a text, or of several in turn, a list of (bytes, bytes).

    Each step joins the pair of neighbours that is most frequent in all words; of equals the one
    whose first part, and then whose second part, is the older token.
    """
    words = Counter(utf8(word) for text in documents(texts) for word in split_simple(text, pattern))
    tokens = {word: [bytes([byte]) for byte in word] for word in words}
    age = {bytes([byte]): place for place, byte in enumerate(BYTE_ORDER)}
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, parts in tokens.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], -age[pair[0]], -age[pair[1]]))
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        age[best[0] + best[1]] = len(age)
        tokens = {word: _merged(parts, best) for word, parts in tokens.items()}
    return merges


def encode_simple(text, merges, *, pattern="gpt2"):
    """The tokens of a text, a list of bytes: in each word, the earliest merge that fits, again."""
    rank = {pair: place for place, pair in enumerate(merges)}
    tokens = []
    for word in split_simple(text, pattern):
        parts = [bytes([byte]) for byte in utf8(word)]
        while found := [p for p in pairwise(parts) if p in rank]:
            parts = _merged(parts, min(found, key=rank.__getitem__))
        tokens += parts
    return tokens


def _merged(parts, pair):
    """Join the pair wherever it stands, from the left."""
    result, i = [], 0
    while i < len(parts):
        size = 2 if (*parts[i : i + 2],) == pair else 1
        result.append(b"".join(parts[i : i + size]))
        i += size
    return result

"""Text to tokens by byte-pair merges, fast.

Long texts go through arrays: where words begin (pretokenize.py), which words they are and what
tokens those have (bpe_table.py), the new words merged together (bpe_merge.py). Short ones would
only meet the fixed cost of that, so they go word by word through a dict (bpe_short.py). The plain
version of all this is bpe_simple.py.
"""

from itertools import pairwise

import numpy as np

from minillm.tokenizers.base import utf8
from minillm.tokenizers.bpe_merge import spread
from minillm.tokenizers.bpe_short import ShortTexts
from minillm.tokenizers.bpe_table import PADDING, WordTable
from minillm.tokenizers.pretokenize import cut_places, word_starts
from minillm.tokenizers.pretokenize_rules import BORDER

__all__ = ["Encoder"]

SHORT = 1 << 12  # characters up to which a text is short
BLOCK = 1 << 17  # bytes at a time, so that their words stay in the processor's cache
WORDS = 1 << 15  # words looked up at once, for the same reason
GATHER = 1 << 24  # bytes whose new words are merged together
MEMORY = 1 << 28  # bytes a table of words may take before it is dropped


class Encoder:
    """Text to ids for one set of merges and one pattern; any threads may use it at once.

    Parameters
    ----------
    merges : Merges
    pattern : str, one of pretokenize.PATTERNS
    whole : dict or None, bytes -> id: a word found here is that token, without merging
    memory : int, bytes the words seen before may take
    short : int, characters up to which a text goes word by word
    block : int, bytes
    """

    def __init__(self, merges, pattern, whole=None, *, memory=MEMORY, short=SHORT, block=BLOCK):
        self.pattern, self.merges, self._whole = pattern, merges, whole
        self.memory, self.short, self.block = memory, short, block
        self.forget()

    def forget(self):
        """Begin anew, without a word seen before."""
        self._words = WordTable(self._merge)
        self._short = ShortTexts(self.pattern, self.encode_word)

    def encode_word(self, word):
        """The ids of one word's bytes, a list."""
        if self._whole is not None and word in self._whole:
            return [self._whole[word]]
        return self.merges.one(word)

    def _merge(self, data, starts, lengths):
        """The tokens of many words, and how many each has, as `Merges.many`."""
        if self._whole is None:
            return self.merges.many(data, starts, lengths)
        text = data.tobytes()
        found = np.array(
            [
                self._whole.get(text[start : start + length], -1)
                for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
            ],
            np.int32,
        )
        rest = np.flatnonzero(found < 0)
        ids, count = self.merges.many(data, starts[rest], lengths[rest])
        counts = np.ones(len(found), np.int64)
        counts[rest] = count
        first = np.cumsum(counts) - counts
        out = np.empty(counts.sum(), np.int32)
        out[first] = found
        out[spread(first[rest], count)] = ids
        return out, counts

    def encode(self, text):
        """The ids of a text, int32 (N,).

        Raises
        ------
        UserError
            for a lone surrogate.
        """
        if isinstance(text, str) and len(text) <= self.short:
            return self._short.encode(text)
        return self._long(utf8(text))

    def encode_batch(self, texts):
        """The ids of each of several texts, a list of int32 arrays; faster than one by one.

        The texts go together, a byte that is in no UTF-8 between them; it becomes a token that no
        text has, and there the ids are parted again.

        Raises
        ------
        UserError
            for a lone surrogate.
        """
        rows, held, size = [], [], 0
        for text in texts:
            held.append(utf8(text))
            size += len(held[-1])
            if size >= GATHER:
                rows += self._together(held)
                held, size = [], 0
        return rows + (self._together(held) if held else [])

    def _together(self, texts):
        ids = self._long(bytes([BORDER]).join(texts))
        ends = [*np.flatnonzero(ids == self.merges.byte_ids[BORDER]).tolist(), len(ids)]
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [ids[start:end].copy() for start, end in zip(starts, ends, strict=True)]

    def _long(self, raw):
        """The ids of UTF-8."""
        data = np.frombuffer(raw + bytes(PADDING), np.uint8)
        places = cut_places(data[: len(raw)], self.block)
        parts, step = [], max(GATHER // self.block, 1)
        for i in range(0, len(places) - 1, step):
            parts += self._blocks(data, places[i : i + step + 1])
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def _blocks(self, data, places):
        """The ids of the blocks between places, a list of arrays."""
        words = self._words
        if words.nbytes > self.memory:
            words = self._words = WordTable(self._merge)
        numbers: list[np.ndarray] = []
        for low, high in pairwise(places):
            numbers += self._numbers(words, data[low : high + PADDING], high - low)
        return [words.tokens(found) for found in numbers]

    def _numbers(self, words, padded, size):
        """The numbers of a block's words, a list of arrays: more than one for a large block."""
        starts = word_starts(padded[:size], self.pattern)
        lengths = np.diff(starts, append=size)
        return [
            words.numbers(padded, starts[i : i + WORDS], lengths[i : i + WORDS])
            for i in range(0, len(starts), WORDS)
        ]

"""A table of words seen before and their tokens, asked for all words of a text at once.

A word of at most 8 bytes is its own key: its bytes, and where they are fewer than 8 its length in
the top byte, as 0xF8 + length, which no UTF-8 holds. A longer word's key is a hash of its bytes
with 0xF8 on top. One table answers for both (bpe_hash.py), and the longer words are then compared
with the bytes that are kept of them: equal hashes are not trusted.

Left out: dropping single words; who owns the table drops all of it when it is too large.
"""

import threading

import numpy as np

from minillm.tokenizers.bpe_hash import HashTable
from minillm.tokenizers.bpe_merge import spread

__all__ = ["PADDING", "WordTable", "hash_words"]

PADDING = 8  # bytes that must follow the last word, as words are loaded 8 bytes at a time

_SIZE = np.arange(8, dtype=np.uint64)
_MASK = np.append((np.uint64(1) << (np.uint64(8) * _SIZE)) - np.uint64(1), ~np.uint64(0))
_TOP = np.append((np.uint64(0xF8) + _SIZE) << np.uint64(56), np.uint64(0))
_LONG = np.uint64(0xF8 << 56)
_BELOW_TOP = np.uint64((1 << 56) - 1)


class WordTable:
    """Words to numbers, and numbers to tokens; any threads may use it at once.

    Parameters
    ----------
    merge : function of (data, starts, lengths) that returns the tokens of new words and how many
        tokens each has, as `Merges.many`
    hashed : function of (pieces, sizes), the hash of long words, as `hash_words`
    """

    def __init__(self, merge, hashed=None):
        self._merge, self._hashed = merge, hashed or hash_words
        self._table = HashTable()
        self._lock = threading.Lock()
        self._apart: dict[bytes, int] = {}  # words whose key is another word's
        # The words not yet merged: number of the first -> bytes and lengths. What is kept below
        # only counts when the last of its arrays has it, so that an interrupt leaves no half.
        self._fresh: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lengths = _Growing(np.int64)  # (W,) bytes of each word
        self._bodies = _Growing(np.int64)  # (W,) where a long word begins in _pieces
        self._pieces = _Growing(np.uint64)  # the long words, 8 bytes each, the last filled with 0
        self._heads = _Growing(np.int32)  # (W,) the first token of each word that is merged
        self._extra = _Growing(np.int64)  # (W,) how many more tokens it has
        self._tails = _Growing(np.int64)  # (W,) where they begin in _tokens
        self._tokens = _Growing(np.int32)

    @property
    def nbytes(self):
        """About how much memory the table takes."""
        columns = [self._lengths, self._bodies, self._pieces, self._heads, self._extra, self._tails]
        known = sum(column.data.nbytes for column in [*columns, self._tokens])
        return known + self._table.nbytes + 200 * len(self._apart)

    def numbers(self, data, starts, lengths):
        """The number of each word; a new word gets a new one.

        Parameters
        ----------
        data : uint8 (D,), with `PADDING` more bytes after the last word
        starts, lengths : int64 (N,), none of length 0

        Returns
        -------
        numbers : int32 (N,)
        """
        windows = _windows(data)
        keys = windows.take(starts)
        keys &= _MASK.take(lengths, mode="clip")  # clip: 8 stands for all sizes above
        keys |= _TOP.take(lengths, mode="clip")
        long = np.flatnonzero(lengths > 8)
        if len(long):
            size, pieces = _pieces_of(windows, starts[long], lengths[long])
            keys[long] = (self._hashed(pieces, size) & _BELOW_TOP) | _LONG
        numbers = self._table.find(keys)
        if numbers.size and numbers.min() < 0:
            self._add(data, starts, lengths, keys, numbers)
        if len(long):
            for i in long[~self._same(numbers[long], lengths[long], size, pieces)]:
                numbers[i] = self._set_apart(data[starts[i] : starts[i] + lengths[i]])
        return numbers

    def _same(self, numbers, lengths, size, pieces):
        """Whether the words of these numbers have these bytes, bool (M,)."""
        same = self._lengths.data.take(numbers) == lengths
        there = spread(self._bodies.data.take(numbers), size)
        differs = self._pieces.data.take(there, mode="clip") != pieces
        if differs.any():
            same &= ~np.logical_or.reduceat(differs, np.cumsum(size) - size)
        return same

    def _add(self, data, starts, lengths, keys, numbers):
        """Give numbers to the words that have none."""
        with self._lock:
            lost = np.flatnonzero(numbers < 0)
            numbers[lost] = self._table.find(keys[lost])  # another thread may have added them
            lost = lost[numbers[lost] < 0]
            if len(lost):
                new, first, which = np.unique(keys[lost], return_index=True, return_inverse=True)
                first = lost[first]
                made = self._append(data, starts[first], lengths[first])
                self._table.insert(new, made)
                numbers[lost] = made[which]

    def _append(self, data, starts, lengths):
        """New numbers for words; their bytes are kept until merged, long ones' for good."""
        first, text = self._lengths.size, self._pieces.size
        self._fresh[first] = data.take(spread(starts, lengths)), lengths
        long = lengths > 8
        size, pieces = _pieces_of(_windows(data), starts[long], lengths[long])
        bodies = np.zeros(len(starts), np.int64)
        bodies[long] = text + np.cumsum(size) - size
        self._pieces.put(text, pieces)
        self._bodies.put(first, bodies)
        self._lengths.put(first, lengths)
        return np.arange(first, first + len(starts), dtype=np.int32)

    def _set_apart(self, word):
        """The number of a word whose key is another word's."""
        with self._lock:
            name = word.tobytes()
            if name not in self._apart:
                padded = np.append(word, np.zeros(PADDING, np.uint8))
                made = self._append(padded, np.zeros(1, np.int64), np.array([len(word)]))
                self._apart[name] = int(made[0])
            return self._apart[name]

    def tokens(self, numbers):
        """The tokens of words, one word's after the other's.

        Parameters
        ----------
        numbers : int32 (N,), from `numbers`

        Returns
        -------
        ids : int32 (T,)
        """
        if self._tails.size < self._lengths.size:
            self._merge_fresh()
        heads = self._heads.data.take(numbers)
        extra = self._extra.data.take(numbers)
        more = np.flatnonzero(extra)
        if len(more) == 0:
            return heads
        place = np.cumsum(extra)  # (N,)
        ids = np.empty(len(heads) + int(place[-1]), np.int32)
        place -= extra
        place += np.arange(len(heads))
        ids[place] = heads
        extra = extra[more]
        tails = spread(self._tails.data.take(numbers[more]), extra)
        ids[spread(place[more] + 1, extra)] = self._tokens.data.take(tails)
        return ids

    def _merge_fresh(self):
        with self._lock:
            done, known = self._tails.size, self._lengths.size
            fresh = [self._fresh[i] for i in sorted(self._fresh) if done <= i < known]
            if not fresh:
                return
            lengths = np.concatenate([sizes for _, sizes in fresh])
            data = np.concatenate([text for text, _ in fresh])
            ids, counts = self._merge(data, np.cumsum(lengths) - lengths, lengths)
            first, place = np.cumsum(counts) - counts, self._tokens.size
            self._heads.put(done, ids[first])
            self._extra.put(done, counts - 1)
            self._tokens.put(place, ids)
            self._tails.put(done, place + first + 1)
            self._fresh = {}


def hash_words(pieces, sizes):
    """A hash of words that are given as 8-byte pieces.

    Equation: h = sum over i of mix(piece i) * (2 i + 1) * K, mod 2^64, then mixed again, where
    mix(x) = x xor (x >> 32)

    Parameters
    ----------
    pieces : uint64 (P,), one word's after the other's
    sizes : int64 (N,), how many each has

    Returns
    -------
    hashes : uint64 (N,)
    """
    first = np.cumsum(sizes) - sizes
    odd = 2 * (np.arange(len(pieces)) - np.repeat(first, sizes)) + 1
    terms = (pieces ^ (pieces >> np.uint64(32))) * odd.view(np.uint64)
    terms *= np.uint64(0xD6E8_FEB8_6659_FD93)  # odd, its bits without a pattern
    hashes = np.add.reduceat(terms ^ (terms >> np.uint64(29)), first)
    return hashes ^ (hashes >> np.uint64(32))


def _windows(data):
    """The 8 bytes from each byte on, uint64 (D - 7,), a view."""
    return np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))


def _pieces_of(windows, starts, lengths):
    """How many 8-byte pieces each word has, int64 (N,), and the pieces of all, uint64 (P,)."""
    size = (lengths + 7) >> 3
    ends = np.cumsum(size)
    pieces = windows.take(np.repeat(starts - 8 * (ends - size), size) + 8 * np.arange(size.sum()))
    pieces[ends - 1] &= _MASK.take(lengths - 8 * (size - 1))
    return size, pieces


class _Growing:
    """An array that can grow; `data[:size]` is valid."""

    def __init__(self, dtype):
        self.data, self.size = np.empty(1 << 10, dtype), 0

    def put(self, place, values):
        """Let the array end in these values, from a place on."""
        size = place + len(values)
        if size > len(self.data):
            data = np.empty(2 * size, self.data.dtype)
            data[:place] = self.data[:place]
            data[place:size] = values
            self.data = data
        else:
            self.data[place:size] = values
        self.size = size

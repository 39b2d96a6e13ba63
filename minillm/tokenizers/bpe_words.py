"""The different words of a text and how often each occurs, counted a batch of text at a time.

A word of up to seven bytes is one integer, its bytes and its size, so that a plain sort counts
words. A longer one is found by a 64-bit hash; words that share it are told apart by their bytes.
"""

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise

import numpy as np

from minillm.tokenizers.base import documents, utf8
from minillm.tokenizers.pretokenize import cut_places, word_starts
from minillm.tokenizers.pretokenize_rules import BORDER

__all__ = ["Words", "count_words"]

BATCH = 1 << 19  # bytes of text counted at once, few enough to stay in the cache
SHORT = 7  # bytes of a word that fit into an integer beside their number
LONG = 256  # bytes; words beyond that are few, and are left to a dict

_MASK = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # the first bytes alone
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # an odd number with bits all over: 2^64 / golden ratio


@dataclasses.dataclass(frozen=True)
class Words:
    """Words and how often each occurs.

    Attributes
    ----------
    data : uint8 (B,), the words' bytes and, after them, eight more
    start, size : int64 (W,), where the bytes of each word are
    count : int64 (W,), or None for words as they came, each counting once
    """

    data: np.ndarray
    start: np.ndarray
    size: np.ndarray
    count: np.ndarray | None

    def in_order(self):
        """The bytes of the words, one after the other."""
        return self.data[_ranges(self.start, self.size)]


def count_words(texts, pattern, *, threads=1, progress=None):
    """The different words of a text, or of several in turn.

    Parameters
    ----------
    texts : str or iterable of str, read once, about BATCH bytes at a time
    pattern : str, one of `pretokenize.PATTERNS`
    progress : function of the bytes done and None, the total not being known

    Returns
    -------
    words : Words, each once, in no order that means anything
    """
    batches = _batches(texts)
    held: list[Words] = []
    done = total = 0
    with ThreadPoolExecutor(threads) as pool:
        while now := list(islice(batches, threads)):
            held += pool.map(lambda batch: _count(batch, pattern), now)
            # The words that are known need no more memory than twice what is left of them.
            if sum(len(words.data) for words in held) > 2 * total + 8 * BATCH:
                held = [_merged(held)]
                total = len(held[0].data)
            done += sum(map(len, now))
            if progress:
                progress(done, None)
    return _merged(held)


def _batches(texts):
    """The UTF-8 of the texts in pieces of about BATCH bytes, short texts together."""
    held, size = [], 0
    for text in documents(texts):
        data = utf8(text)
        if len(data) > BATCH:
            places = cut_places(np.frombuffer(data, np.uint8), BATCH)
            yield from (data[a:b] for a, b in pairwise(places))
        elif data:
            held.append(data)
            size += len(data)
        if size > BATCH:
            yield bytes([BORDER]).join(held)
            held, size = [], 0
    if held:
        yield bytes([BORDER]).join(held)


def _count(batch, pattern):
    start = word_starts(batch, pattern)
    data = np.frombuffer(batch + bytes(8), np.uint8)
    size = np.diff(start, append=len(batch))
    if BORDER in batch:
        real = data[start] != BORDER
        start, size = start[real], size[real]
    return _distinct(Words(data, start, size, None))


def _merged(parts):
    """The different words of several Words."""
    if not parts:
        return Words(np.zeros(8, np.uint8), *(np.empty(0, np.int64) for _ in range(3)))
    offset = np.cumsum([0, *(len(words.data) for words in parts)])
    start = [words.start + low for words, low in zip(parts, offset, strict=False)]
    data, size, count = (
        np.concatenate([getattr(words, name) for words in parts])
        for name in ("data", "size", "count")
    )
    return _distinct(Words(data, np.concatenate(start), size, count))


def _distinct(words):
    """Each of the words once, with the sum of its counts, or their number where there are none."""
    short, middle = words.size <= SHORT, words.size <= LONG
    kinds = (_short_words, short), (_hashed_words, middle & ~short), (_few_words, ~middle)
    parts = []
    for find, which in kinds:
        if which.any():
            count = None if words.count is None else words.count[which]
            parts.append(find(Words(words.data, words.start[which], words.size[which], count)))
    size, count = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    data = np.concatenate([*(part[0] for part in parts), np.zeros(8, np.uint8)])
    return Words(data, np.cumsum(size) - size, size, count)


def _short_words(words):
    """(bytes, sizes, counts) of words whose bytes and size are one integer."""
    key = _eights(words.data)[words.start] & _MASK[words.size]
    key |= words.size.astype(np.uint64) << np.uint64(56)
    if words.count is None:
        key.sort()
    else:
        order = np.argsort(key)
        key = key[order]
    first = _firsts(key)
    if words.count is None:
        count = np.diff(first, append=len(key))
    else:
        count = np.add.reduceat(words.count[order], first)
    key = key[first].astype("<u8")
    size = (key >> np.uint64(56)).astype(np.int64)
    data = key.view(np.uint8).reshape(-1, 8)
    return data[np.arange(8) < size[:, None]], size, count


def _hashed_words(words):
    """(bytes, sizes, counts) of words that are grouped by a hash of their bytes."""
    n = len(words.start)
    bits = np.uint64(n.bit_length())
    low = (np.uint64(1) << bits) - np.uint64(1)
    # The hash's high bits, and in the low ones which word it is: a plain sort is fastest.
    packed = hash_words(words) & ~low | np.arange(n, dtype=np.uint64)
    packed.sort()
    word = (packed & low).astype(np.int64)
    first = _firsts(packed >> bits)
    size = np.diff(first, append=n)
    group = np.repeat(np.arange(len(first)), size)
    same = _same_words(words, word, word[first][group])
    if not same.all():
        return _few_words(words)
    count = size if words.count is None else np.add.reduceat(words.count[word], first)
    start, size = words.start[word[first]], words.size[word[first]]
    return words.data[_ranges(start, size)], size, count


def _few_words(words):
    """(bytes, sizes, counts) of words, by a dict."""
    found: Counter[bytes] = Counter()
    count = np.ones(len(words.start), np.int64) if words.count is None else words.count
    data = words.data.tobytes()
    for start, size, n in zip(*(x.tolist() for x in (words.start, words.size, count)), strict=True):
        found[data[start : start + size]] += n
    sizes = np.array([len(word) for word in found])
    return np.frombuffer(b"".join(found), np.uint8), sizes, np.array(list(found.values()))


def hash_words(words):
    """64 bits for the bytes of each word, uint64 (W,): equal words have equal ones."""
    result = words.size.astype(np.uint64) * _FACTOR
    for here, eight in _pieces(words):
        mixed = (result[here] ^ eight) * _FACTOR
        result[here] = mixed ^ mixed >> np.uint64(29)
    return result * _FACTOR


def _same_words(words, one, other):
    """Whether word one[i] is word other[i], bool (n,)."""
    same = words.size[one] == words.size[other]
    if not same.all():
        return same
    pairs = (_pieces(words, index) for index in (one, other))
    for (here, left), (_, right) in zip(*pairs, strict=False):
        same[here] &= left == right
    return same


def _pieces(words, index=slice(None)):
    """Eight bytes after eight bytes of some words: (the words that reach there, uint64 each)."""
    start, size = words.start[index], words.size[index]
    eights = _eights(words.data)
    here = np.arange(len(start))
    place = 0
    while len(here):
        left = size[here] - place
        yield here, eights[start[here] + place] & _MASK[np.minimum(left, 8)]
        here, place = here[left > 8], place + 8


def _eights(data):
    """The eight bytes from each place on, as an integer whose lowest byte is the first."""
    return np.ndarray(len(data) - 7, "<u8", np.ascontiguousarray(data), strides=(1,))


def _firsts(ordered):
    """Where each value of a sorted array first stands."""
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return np.flatnonzero(new)


def _ranges(start, size):
    """start, start + 1, ... of each range, one after the other."""
    return np.arange(size.sum()) + np.repeat(start - (np.cumsum(size) - size), size)

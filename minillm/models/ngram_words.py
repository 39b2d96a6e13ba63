"""The words of a whole text to ids at once, the vocabulary found on the way.

A word is what stands between ASCII's white space, and a line feed ends a line: the text as
`bytes.split` reads it, and WordTokenizer with split="whitespace". A word at a time that is

    for line in data.split(b"\\n"): ids += [id_of[word] for word in line.split()] + [end]

and here it goes by all words together, eight bytes of each at a time. Each word gets a hash; the
hashes are sorted, the words' places in their low bits; words with equal ones stand side by side and
get one id. Whether they are equal is then compared, byte for byte: one that differs from the first
of its group is put right by a dictionary.

KenLM's lmplz reads most texts so, but not all. Left out: its way with a last line that no line feed
ends, which gets no </s> there; with vertical tabs and form feeds, which are parts of words there
(though not to KenLM's own scoring); and with NUL, which stands between words there.
"""

import dataclasses
import hashlib
import itertools
from functools import partial

import numpy as np

from minillm.errors import UserError
from minillm.models.ngram_counts import worker_pool
from minillm.models.ngram_table import MULTIPLIER

__all__ = ["LONG", "Text", "Words", "look", "read_words", "spans"]

PIECE = 1 << 19  # bytes, and words, looked at together
LONG = 512  # bytes; longer words are looked at one by one
TAB, SPACES_FROM_TAB, SPACE, NEWLINE = 9, 5, 32, 10
FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n of eight
NOTHING = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Words:
    """A text as ids of its words.

    Attributes
    ----------
    names : list of str, the words, the most frequent first; of equally frequent ones the one that
        comes first in the text
    counts : int64 (V,), how often each occurs
    ids : int32 (N + lines,), the words of the text, and after those of each line len(names)
    """

    names: list
    counts: np.ndarray
    ids: np.ndarray


@dataclasses.dataclass
class _Piece:
    """Some whole lines of the text.

    start, size : int64 (n,), where each word begins in the text, and its bytes
    line_end : bool (n + lines,), whether a line's end stands at each place in the ids, or a word
    hash : uint64 (n,)
    first : int, how many words stand before this piece
    """

    start: np.ndarray
    size: np.ndarray
    line_end: np.ndarray
    hash: np.ndarray
    first: int = 0


class Text:
    """The bytes of a text, each line ended, to be read eight at a time from any place."""

    def __init__(self, data):
        self.size = len(data) + (not data.endswith(b"\n") and len(data) > 0)
        self.bytes = np.empty(len(data) + 16, np.uint8)  # eight are there even behind the last one
        self.bytes[: len(data)] = np.frombuffer(data, np.uint8)
        self.bytes[len(data) :] = NEWLINE
        self.eights = np.ndarray(len(data) + 8, "<u8", self.bytes, 0, (1,))

    def start_of(self, start, size):
        """The first eight bytes of words as integers, zeros where a word is shorter."""
        found = self.eights[start].astype(np.uint64, copy=False)
        found &= FIRST_BYTES.take(np.minimum(size, 8))
        return found

    def later_bytes(self, size):
        """How to read the bytes of words from the ninth on, eight at a time.

        Yields (which, offset): those of the words that have more, int (m,), and where in each of
        them to read. Nothing of words longer than LONG.
        """
        which = np.flatnonzero((size > 8) & (size <= LONG))
        yield which, size[which] - 8  # the last eight first, then those between
        offset = 8
        while len(which := which[size[which] > offset + 8]):
            yield which, offset
            offset += 8

    def hashes(self, start, size):
        """A 64-bit hash of each word: all its bytes, eight by eight, stirred in one by one."""
        found = self.start_of(start, size)
        found ^= size.view(np.uint64)
        _stir(found)
        for which, offset in self.later_bytes(size):
            part = found[which]
            part ^= self.eights[start[which] + offset]
            found[which] = _stir(part)
        for i in np.flatnonzero(size > LONG):
            digest = hashlib.blake2b(self.word(start[i], size[i]), digest_size=8).digest()
            found[i] = int.from_bytes(digest, "little")
        return _stir(found)

    def word(self, start, size):
        return self.bytes[start : start + size].tobytes()


def read_words(data, *, threads=None):
    """Find the words of a text, and give each an id.

    Parameters
    ----------
    data : bytes, UTF-8; an end of the last line is added where it is missing
    threads : int or None, as many as there are processors

    Returns
    -------
    words : Words

    Raises
    ------
    UserError
        for what is no UTF-8.
    """
    text = Text(data)
    with worker_pool(threads, text.size) as each:
        pieces = each(partial(look, text), spans(data, text.size))
        total = 0
        for piece in pieces:
            piece.first = total
            total += len(piece.start)
        ids, first = _group([piece.hash for piece in pieces], total)  # (N,), (groups,)
        start, size = _joined(pieces, "start"), _joined(pieces, "size")  # (N,)
        model = start[first], size[first], text.start_of(start[first], size[first])  # each (G,)
        wrong = each(partial(_compare, text, ids, model), pieces)
        first = _put_right(text, ids, first, start, size, np.concatenate([NOTHING, *wrong]))
        counts = np.bincount(ids, minlength=len(first))
        order = _by_frequency(counts, first)  # (V,)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order))
        rows = each(partial(_with_line_ends, ids, rank), pieces)
    first = first[order]
    names = _names(text, start[first], size[first])
    return Words(names, counts[order], np.concatenate([NOTHING.astype(np.int32), *rows]))


def spans(data, size):
    """Where to cut the text, into pieces of whole lines: (start, stop) of each."""
    cuts = [0]
    while cuts[-1] < size:
        found = data.find(b"\n", cuts[-1] + PIECE - 1)
        cuts.append(found + 1 if found >= 0 else size)
    return list(itertools.pairwise(cuts))


def look(text, span):
    """The _Piece of the bytes from span[0] to span[1], the last of which ends a line."""
    part = text.bytes[slice(*span)]
    space, newline = _space(part)
    marks = _marks(space, newline)
    line_end = newline[marks]
    start = marks[~line_end]
    size = np.flatnonzero(space[1:] > space[:-1]) + 1 - start
    start += span[0]
    return _Piece(start, size, line_end, text.hashes(start, size))


def _space(part):
    """Which bytes are white space, and which end a line."""
    newline = part == NEWLINE
    space = part - np.uint8(TAB) < np.uint8(SPACES_FROM_TAB)
    space |= part == SPACE
    return space, newline


def _marks(space, newline):
    """Where words begin and lines end, one after the other."""
    marks = ~space
    marks[1:] &= space[:-1]
    marks |= newline
    return np.flatnonzero(marks)


def _stir(values):
    """Let every bit of the integers change those above it, in place, and these the ones below."""
    values *= MULTIPLIER
    values ^= values >> np.uint64(32)
    return values


def _group(hashes, total):
    """Number the words by their hashes' upper bits: ids (N,), and the first word of each (G,)."""
    bits = np.uint64(total.bit_length())
    packed = np.empty(total, np.uint64)
    done = 0
    for part in hashes:
        mine = packed[done : done + len(part)]
        np.left_shift(np.right_shift(part, bits, out=mine), bits, out=mine)
        mine |= np.arange(done, done + len(part), dtype=np.uint64)
        done += len(part)
    packed.sort()
    ids, firsts = np.empty(total, np.int32), [NOTHING]
    groups, previous = 0, None
    for low in range(0, total, PIECE // 8):
        part = packed[low : low + PIECE // 8]
        place = (part & ((np.uint64(1) << bits) - np.uint64(1))).view(np.int64)
        upper = part >> bits
        new = np.empty(len(part), bool)
        new[0], new[1:] = upper[0] != previous, upper[1:] != upper[:-1]
        number = np.cumsum(new, dtype=np.int32)
        number += groups - 1
        ids[place] = number
        firsts.append(place[new])
        groups, previous = int(number[-1]) + 1, upper[-1]
    return ids, np.concatenate(firsts)


def _compare(text, ids, model, piece):
    """The words of a piece that differ from the first ones of their groups, int (m,)."""
    start, size = piece.start, piece.size
    group = ids[piece.first : piece.first + len(start)]
    same = model[1].take(group) == size
    same &= model[2].take(group) == text.start_of(start, size)
    other = model[0].take(group)  # (n,)
    for which, offset in text.later_bytes(np.where(same, size, 0)):
        mine, its = start[which] + offset, other[which] + offset
        same[which] &= text.eights[mine] == text.eights[its]
    for i in np.flatnonzero(same & (size > LONG)):
        same[i] = text.word(start[i], size[i]) == text.word(other[i], size[i])
    return np.flatnonzero(~same) + piece.first


def _put_right(text, ids, first, start, size, wrong):
    """New groups, by a dictionary, for words that are not what their group is; all `first`."""
    group_of: dict = {}
    more: list[int] = []
    for i in wrong.tolist():
        word = text.word(start[i], size[i])
        if word not in group_of:
            group_of[word] = len(first) + len(more)
            more.append(i)
        ids[i] = group_of[word]
    return np.append(first, np.array(more, np.int64))


def _by_frequency(counts, first):
    """The groups, the most frequent first, of equally frequent ones the one that comes first."""
    key = (counts.max(initial=0) - counts) * (first.max(initial=0) + 1) + first
    return np.argsort(key)


def _with_line_ends(ids, rank, piece):
    """The final ids of a piece's words, and those of the lines' ends."""
    row = np.full(len(piece.line_end), len(rank), np.int32)
    row[~piece.line_end] = rank.take(ids[piece.first : piece.first + len(piece.start)])
    return row


def _names(text, start, size):
    """The words as strings: their bytes gathered, a line for each, and decoded together."""
    names: list[str] = []
    for low in range(0, len(start), PIECE // 8):
        begin, many = start[low : low + PIECE // 8], size[low : low + PIECE // 8] + 1
        stop = np.cumsum(many)
        at = np.arange(stop[-1]) + np.repeat(begin - (stop - many), many)
        lines = text.bytes[at]
        lines[stop - 1] = NEWLINE
        try:
            names += lines[:-1].tobytes().decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            where = at[error.start]
            raise UserError(
                f"the text is not UTF-8: byte {where} is 0x{text.bytes[where]:02x} ({error.reason})"
            ) from None
    return names


def _joined(pieces, name):
    return np.concatenate([NOTHING, *(getattr(piece, name) for piece in pieces)])

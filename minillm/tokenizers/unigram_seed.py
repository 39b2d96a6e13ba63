"""What unigram training starts from: segments of words with their counts, and frequent substrings.

A piece never holds a space but at its start, nor characters of two scripts (SentencePiece's rules).
Words are therefore cut where two scripts meet, before anything is counted: no path through their
lattices changes by that, and the same segments come again in many words.
"""

import collections
import dataclasses
import itertools
import re

import numpy as np

from minillm.errors import UserError
from minillm.tokenizers.base import code_points, documents
from minillm.tokenizers.sentencepiece_text import SPACE
from minillm.tokenizers.unigram_scripts import ANY, scripts_of

__all__ = ["Seeds", "characters_to_keep", "count_segments", "seed_pieces"]

BATCH = 1 << 22  # characters whose words are counted before they are cut into segments
LONGEST = 256  # characters of a segment; longer ones are cut there


def count_segments(texts, normalizer, *, symbols=(), whitespace_pieces=False):
    """How often each segment comes in texts, which are consumed once.

    Parameters
    ----------
    texts : str, or iterable of str
    normalizer : Normalizer
    symbols : strings that stand for themselves, and end the segments around them
    whitespace_pieces : bool, whether several spaces can be a piece

    Returns
    -------
    segments : dict, str -> int
    """
    names = re.compile("|".join(map(re.escape, sorted(symbols, key=len, reverse=True))) or "(?!)")
    before_word = re.compile(f"(?<!{SPACE}){SPACE}" if whitespace_pieces else SPACE)
    segments: collections.Counter = collections.Counter()
    words: collections.Counter = collections.Counter()
    size = 0
    for text in documents(texts):
        code_points(text)  # refuses a lone surrogate
        prepared = names.sub(" ", normalizer.prepare(text))
        words.update(before_word.sub(" " + SPACE, prepared).split(" "))
        size += len(prepared)
        if size > BATCH:
            _cut_words(words, segments)
            words, size = collections.Counter(), 0
    _cut_words(words, segments)
    return segments


def _cut_words(words, segments):
    """Add the words, cut where two scripts meet, to the segments' counts."""
    joined = " ".join(words)
    codes = code_points(joined)
    if len(codes) == 0:
        return
    kinds, place = np.unique(codes, return_inverse=True)
    script = scripts_of("".join(map(chr, kinds)))
    script[np.isin(kinds, code_points(SPACE))] = ANY
    script = script[place]
    gap = codes == ord(" ")
    meet = (script[1:] != script[:-1]) & (script[1:] != ANY) & (script[:-1] != ANY)
    inner = np.flatnonzero(meet | gap[1:] | gap[:-1]) + 1
    stops = [0, *inner.tolist(), len(joined)]
    word = np.cumsum(gap).tolist()
    counts = list(words.values())
    for a, b in itertools.pairwise(stops):
        for start in range(a, b, LONGEST):
            segments[joined[start : min(start + LONGEST, b)]] += counts[word[start]]
    segments.pop(" ", None)


def characters_to_keep(segments, coverage, required=""):
    """The characters that make up a share `coverage` of the text, the most frequent first.

    Returns
    -------
    kept : dict, character -> count
    """
    counts: collections.Counter = collections.Counter()
    for segment, count in segments.items():
        for c in segment:
            counts[c] += count
    counts.pop("\0", None)  # which SentencePiece cannot hold
    kept = {c: counts.pop(c, 0) for c in required}
    total, done = sum(counts.values()) + sum(kept.values()), sum(kept.values())
    for c, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if done >= coverage * total:
            break
        kept[c] = count
        done += count
    return kept


@dataclasses.dataclass
class Seeds:
    """The first pieces, and where each stands in the segments.

    Attributes
    ----------
    pieces : list of V str, the single characters first
    counts : float64 (V,), how often each comes, times its length if that is more than one
    lengths, weights : (W,), the characters of each segment and how often it comes
    start, size, piece : (E,), the first character of each occurrence, counted through all
        segments, how many it has, and which piece it is
    """

    pieces: list
    counts: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray
    start: np.ndarray
    size: np.ndarray
    piece: np.ndarray


def seed_pieces(segments, kept, *, longest=16, most=1_000_000):
    """Substrings that come at least twice, and not always with the same character behind them.

    Those are what a suffix array shows as the nodes of its tree (Kudo 2018, section 3.2); here each
    length is counted from the one before. The `most` with the largest count * length stay.

    Parameters
    ----------
    segments : dict, str -> int
    kept : the characters that pieces can have; the others end segments
    longest : int, characters of a piece

    Raises
    ------
    UserError
        if there is nothing to find pieces in.
    """
    lost = re.compile("[^" + "".join(map(re.escape, kept)) + "]+") if kept else re.compile(".")
    counts: collections.Counter = collections.Counter()
    for segment, count in segments.items():
        for part in lost.split(segment):
            counts[part] += count
    counts.pop("", None)
    if not counts:
        raise UserError("there is no text to train a unigram tokenizer on")
    text = "".join(counts)
    lengths = np.array([len(segment) for segment in counts])
    weights = np.array(list(counts.values()), np.float64)
    kinds, codes = np.unique(code_points(text), return_inverse=True)
    reach = np.minimum(_reach(kinds, codes, lengths), longest)
    weight = np.repeat(weights, lengths)  # (N,)
    found = [(np.arange(len(codes)), codes, np.bincount(codes, weight), None)]
    while len(found[-1][0]):
        found.append(_longer(found, codes, reach, weight, len(kinds)))
    return _select(found, text, lengths, weights, most)


def _longer(found, codes, reach, weight, n_kinds):
    """The substrings one longer than the last: places, numbers, counts, which number is which."""
    at, gram, count, _ = found[-1]
    size = len(found)  # of the last ones
    longer = (reach[at] > size) & (count[gram] >= 2)
    at, gram = at[longer], gram[longer]
    keys, gram = np.unique(gram.astype(np.int64) * n_kinds + codes[at + size], return_inverse=True)
    return at, gram, np.bincount(gram, weight[at], len(keys)), keys // n_kinds


def _select(found, text, lengths, weights, most):
    """The Seeds among the substrings of all lengths."""
    first = found[0]
    pieces = [text[at] for at in np.unique(first[1], return_index=True)[1].tolist()]
    gains, rows = [np.zeros(0)], []
    for size, (at, gram, count, _) in enumerate(found[1:-1], start=2):
        above = found[size]
        largest = np.zeros(len(count))
        np.maximum.at(largest, above[3], above[2])
        fit = (count >= 2) & (largest < count)
        gains.append(np.where(fit, count * size, 0))
        rows.append((size, at, gram))
    gain = np.concatenate(gains)
    order = np.argsort(-gain, kind="stable")[:most]
    order = np.sort(order[gain[order] > 0])
    number = np.full(len(gain), -1)
    number[order] = len(pieces) + np.arange(len(order))
    edges = [np.stack([first[0], np.ones_like(first[0]), first[1]])]  # start, size, piece
    offset = 0
    for (size, at, gram), part in zip(rows, gains[1:], strict=True):
        name = number[offset + gram]
        offset += len(part)
        edges.append(np.stack([at, np.full_like(at, size), name])[:, name >= 0])
    start, sizes, names = np.concatenate(edges, axis=1)
    place = np.unique(names, return_index=True)[1]
    pieces = [text[a : a + n] for a, n in zip(start[place].tolist(), sizes[place], strict=True)]
    counts = np.append(first[2], gain[order])
    return Seeds(pieces, counts, lengths, weights, start, sizes, names)


def _reach(kinds, codes, lengths):
    """How many characters from each on can be a piece, by the ends of segments and the rules."""
    end = np.repeat(np.cumsum(lengths), lengths)  # (N,)
    begin = end - np.repeat(lengths, lengths)
    script = scripts_of("".join(map(chr, kinds)))
    space = np.isin(kinds, code_points(SPACE))
    script[space] = ANY
    script, space = script[codes], space[codes]
    place = np.arange(len(codes))
    # From the last character of a definite script before it to one of another: no piece has both.
    last = np.maximum.accumulate(np.where(script != ANY, place, -1))
    last = np.append(-1, last[:-1])
    clash = (script != ANY) & (last >= begin) & (script != script[last])
    limit = end.copy()
    np.minimum.at(limit, last[clash], place[clash])
    # Nor two spaces and something else.
    mixed = np.flatnonzero(space[:-2] & space[1:-1] & ~space[2:] & (place[2:] < end[:-2]))
    np.minimum.at(limit, mixed, mixed + 2)
    limit = np.minimum.accumulate(limit[::-1])[::-1]
    return np.minimum(limit, end) - place

"""Cutting a text into words before byte-level BPE, which never merges across their borders.

`split_simple` does it by the published patterns, one match after the other. `word_starts` finds the
same words with a few array operations a byte: which of four classes (letter, number, white space,
other) a character and its neighbours have says whether a word begins there.

Left out: patterns that need more classes, such as o200k's upper and lower case.
"""

import functools
from collections.abc import Callable

import numpy as np
import regex

from minillm.tokenizers.base import utf8
from minillm.tokenizers.pretokenize_rules import BORDER, Characters, cl100k_starts, gpt2_starts
from minillm.tokenizers.unicode_classes import LETTER, NUMBER, RANGES, SPACE

__all__ = ["PATTERNS", "cut_places", "safe_cut", "split_simple", "word_starts"]

PATTERNS = {
    # GPT-2 (Radford et al. 2019), encoder.py
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # GPT-4, tiktoken's openai_public.py: white space that ends the text is one word
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    # the same as it was first, and is in Hugging Face's files: a line break ends a word there too
    "cl100k_original": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


_RULES: dict[str, Callable[[Characters], np.ndarray]] = {
    "gpt2": gpt2_starts,
    "cl100k": functools.partial(cl100k_starts, one_word_at_end=True),
    "cl100k_original": functools.partial(cl100k_starts, one_word_at_end=False),
}

BLOCK = 1 << 17  # bytes cut at once, so that all that is known of them stays in the cache
REACH = 3  # characters: a contraction, the longest that a pattern must see to know its first word


def split_simple(text, pattern):
    """The words of a text, a list of str that joined are the text: the specification.

    Raises
    ------
    ValueError
        for a pattern that is none of PATTERNS.
    """
    return [found.group() for found in _compiled(_checked(pattern)).finditer(text)]


def word_starts(data, pattern):
    """Where the words of a text begin.

    Parameters
    ----------
    data : bytes or uint8 (N,), the text's UTF-8, which must be valid; or that of several texts with
        the byte 0xFF between them, which then is a word of its own
    pattern : str, one of PATTERNS

    Returns
    -------
    starts : int64 (W,), the byte at which each word begins, the first 0; W = 0 for no text

    Raises
    ------
    ValueError
        for a pattern that is none of PATTERNS, or data that is not UTF-8.
    """
    rule = _RULES[_checked(pattern)]
    data = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
    if data.ndim != 1 or data.dtype != np.uint8:
        raise ValueError(f"data must be bytes, or uint8 (N,), got {data.dtype} {data.shape}")
    low, size, parts = 0, BLOCK, [np.empty(0, np.int64)]
    while low < len(data):
        high = min(low + size, len(data))
        while high < len(data) and data[high] & 0xC0 == 0x80:  # inside a character
            high += 1
        text = Characters(data[low:high])
        starts = np.flatnonzero(rule(text))
        if high < len(data):
            starts = _known(text, starts)
            if len(starts) == 1:  # a word longer than the block
                size *= 2
                continue
        starts = text.first_byte(starts) + low
        if high < len(data):
            low, starts, size = int(starts[-1]), starts[:-1], BLOCK
        else:
            low = high
        parts.append(starts)
    return np.concatenate(parts)


def _known(text, starts):
    """The starts of words up to the last that stays one whatever follows the text.

    A word that ends in white space may depend on what comes after it, unless a text ends there; and
    the last characters may be the first of a contraction.
    """
    for few in (64, len(starts)):  # one of the last is most often such
        place = starts[1:][-few:]
        before = place - 1
        known = ~text.white[before] | (text.codes[before] == BORDER)
        known = np.flatnonzero(known & (place <= len(text.codes) - REACH))
        if len(known):
            return starts[: len(starts) - len(place) + int(known[-1]) + 1]
    return starts[:1]


def cut_places(data, size):
    """Cut UTF-8 into blocks of about `size` bytes whose words do not depend on one another.

    A space after a visible ASCII character begins a word whatever stands around, and the word
    before it would end there at a text's end too. A block lasts until there is such a place.

    Parameters
    ----------
    data : bytes or uint8 (N,), valid UTF-8
    size : int

    Returns
    -------
    places : list of int, the first 0, the last len(data); [0] for no data
    """
    data = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
    places, n = [0], len(data)
    while places[-1] < n:
        low, window = places[-1] + size, 256
        place = n
        while low < n:
            part = data[low - 1 : low + window]
            before, here = part[:-1], part[1:]
            found = np.flatnonzero((here == 0x20) & (before > 0x20) & (before < 0x7F))
            if len(found):
                place = low + int(found[0])
                break
            low, window = low + window, 2 * window
        places.append(place)
    return places


def safe_cut(text, pattern):
    """Where a text that goes on can be cut so that neither side's words depend on the other.

    Returns
    -------
    size : int, how many characters can go, as many as is easily known; 0 where there is no place

    Raises
    ------
    ValueError
        for a pattern that is none of PATTERNS.
    UserError
        for a lone surrogate, where it is looked at.
    """
    rule = _RULES[_checked(pattern)]
    place = text.rfind(" ", 1)
    while place > 0 and len(text) - place < BLOCK:
        if "!" <= text[place - 1] <= "~":
            return place  # as in cut_places
        place = text.rfind(" ", 1, place)
    characters = Characters(np.frombuffer(utf8(text), np.uint8))
    return int(_known(characters, np.flatnonzero(rule(characters)))[-1]) if text else 0


def _checked(pattern):
    if pattern not in PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
    return pattern


@functools.cache
def _compiled(name):
    """The pattern with the code points of each class written out, so that all versions agree."""
    pattern = PATTERNS[name].replace(r"(?!\S)", r"(?=\s|\Z)")
    for escape, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        codes = "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in RANGES[kind])
        pattern = pattern.replace(escape, f"[{codes}]")
    return regex.compile(pattern, regex.V1)  # version 1 has sets within sets

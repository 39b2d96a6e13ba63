"""At which characters a word begins, by GPT-2's and GPT-4's patterns, for a whole text at once.

A pattern matches from left to right, but what it does is local: a word begins where the class of
character changes, save that a space joins what follows it, and so on. Each rule says so in array
operations over all characters; `prev` and `next` stand for a character's neighbours. The patterns
themselves are in pretokenize.py.
"""

import numpy as np

from minillm.tokenizers.unicode_classes import LETTER, NUMBER, SPACE, code_point_classes

__all__ = ["BORDER", "Characters", "cl100k_starts", "gpt2_starts"]

BORDER = 0xFF  # no byte of UTF-8: it stands between two texts, and is a word of its own
LONG_S = 0x17F  # the one character beyond ASCII that is a letter of a contraction but for its case
QUOTE = ord("'")


class Characters:
    """The classes of a text's characters.

    Parameters
    ----------
    data : uint8 (B,), UTF-8; a BORDER parts texts that have nothing to do with one another

    Attributes
    ----------
    codes : uint8 (N,), the code point of each ASCII character, 0x80 or more for each other one
    letter, number, white : bool (N,); a border is white: a text's last word ends before it
    border : int (K,), the characters that are borders
    long_s : int (M,), the characters that are U+017F

    Raises
    ------
    ValueError
        if data is not UTF-8.
    """

    def __init__(self, data):
        self.codes, self.long_s, self._first = data, np.empty(0, np.int64), None
        border = data == BORDER
        beyond = (data >= 0x80) ^ border
        if beyond.any():
            code = _decoded(data[beyond])
            self._first = np.flatnonzero(data & 0xC0 != 0x80)  # (N,); others continue a character
            self.codes, border = data[self._first], border[self._first]
            foreign = np.flatnonzero((self.codes >= 0x80) ^ border)
            self.long_s = foreign[code == LONG_S]
        b = self.codes  # a byte below the range that is asked for wraps around to above it
        self.border = np.flatnonzero(border)
        self.letter = (b | 0x20) - np.uint8(ord("a")) < 26
        self.number = b - np.uint8(ord("0")) < 10
        self.white = (b == 0x20) | (b - np.uint8(ord("\t")) < 5) | border
        if self._first is not None:
            kind = code_point_classes()[code]
            self.letter[foreign] = kind == LETTER
            self.number[foreign] = kind == NUMBER
            self.white[foreign] = kind == SPACE

    def first_byte(self, index):
        """The byte at which each of some characters begins."""
        return index if self._first is None else self._first[index]


def _decoded(data):
    try:
        text = data.tobytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"data must be valid UTF-8: {error.reason}") from None
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def gpt2_starts(text):
    """Whether a word of GPT-2's pattern begins at each character, bool (N,)."""
    codes, white = text.codes, text.white
    kind = text.letter.view(np.uint8) + 2 * text.number.view(np.uint8) + 3 * white.view(np.uint8)
    start = np.ones(len(codes), bool)
    # A run of one class is a word, and takes the space before it along.
    start[1:] = (kind[1:] != kind[:-1]) & (codes[:-1] != 0x20)
    # White space that something follows gives its last character to that, or leaves it alone.
    start[:-1] |= white[:-1] > white[1:]
    quote, size = _contractions(np.flatnonzero(start & (codes == QUOTE)), codes)
    start[quote + 1] = False
    after = quote + size
    start[after[after < len(start)]] = True
    return _apart(start, text.border)


def cl100k_starts(text, *, one_word_at_end):
    """Whether a word of GPT-4's pattern begins at each character, bool (N,).

    one_word_at_end : whether white space that ends the text is one word, line breaks or not
    """
    codes, letter, number, white = text.codes, text.letter, text.number, text.white
    other = ~(letter | number | white)
    newline = (codes == 0x0A) | (codes == 0x0D) | (codes == BORDER)
    start = np.ones(len(codes), bool)
    # A run of letters takes one character before it along, if that is no line break, number, or
    # part of a longer run; a run of others takes a space; line breaks after others join these.
    start[1:] = other[1:] & ~other[:-1] & (codes[:-1] != 0x20)
    alone = start[:-1] & other[:-1]
    start[1:] |= letter[1:] & ~(letter[:-1] | alone | (white[:-1] & ~newline[:-1]))
    start[1:] |= number[1:] & ~number[:-1]
    start[1:] |= white[1:] & ~white[:-1] & ~(newline[1:] & other[:-1])
    # The last of some white space goes with what follows, or is alone.
    start[:-1] |= (white[:-1] > white[1:]) & ~newline[:-1]
    _start_after_newlines(text, start, newline, other, one_word_at_end)
    _start_each_third(start, number)
    lower = codes | 0x20  # for letters
    lower[text.long_s] = ord("s")
    quote, size = _contractions(np.flatnonzero(start & (codes == QUOTE)), lower)
    after = quote + size
    start[after[after < len(start)]] = True
    return _apart(start, text.border)


def _apart(start, border):
    """A border is a word, and what comes after it begins one."""
    start[border] = True
    start[border[border < len(start) - 1] + 1] = True
    return start


def _start_after_newlines(text, start, newline, other, one_word_at_end):
    """White space is cut after its last line break, and after those that follow others."""
    first, last = newline.copy(), newline.copy()  # of the line breaks that stand side by side
    first[1:] &= ~newline[:-1]
    last[:-1] &= ~newline[1:]
    if len(text.border):  # which is beside no line break
        border = text.codes == BORDER
        first[1:] |= border[1:] | (newline[1:] & border[:-1])
        last[:-1] |= border[:-1] | (newline[:-1] & border[1:])
    first, after = np.flatnonzero(first), np.flatnonzero(last) + 1
    joined = (first > 0) & other[first - 1]
    end = np.append(first, len(start))[1:]  # of the line after each
    empty = _all_white(text.white, after, end)
    if not one_word_at_end:
        empty &= np.append(text.codes, BORDER)[end] != BORDER
    here = after[joined | ~empty]
    here = here[here < len(start)]
    start[here[text.white[here]]] = True


def _all_white(white, low, high):
    """Whether white[low:high] is all true, for each of several pairs low <= high in order."""
    result = low == high
    some = np.flatnonzero(~result)
    result[some] = white[low[some]] & white[high[some] - 1]
    # What begins and ends so is looked at in between, where there is something.
    maybe = np.flatnonzero(result & (high - low > 2))
    if len(maybe):
        size = high[maybe] - low[maybe]
        offset = np.cumsum(size) - size
        index = np.arange(size.sum()) + np.repeat(low[maybe] - offset, size)
        result[maybe] = np.logical_and.reduceat(white[index], offset)
    return result


def _start_each_third(start, number):
    """Numbers are words of up to three digits."""
    digit = np.flatnonzero(number)
    new = np.ones(len(digit), bool)
    new[1:] = np.diff(digit) > 1
    run = np.maximum.accumulate(np.where(new, digit, 0))  # where each digit's number begins
    start[digit[(digit - run) % 3 == 0]] = True


def _contractions(quote, codes):
    """Those quotes that begin one of 's 't 'm 'd 'll 've 're, and its size, quote included."""
    quote = quote[quote < len(codes) - 1]
    one = codes[quote + 1]
    two = np.where(quote < len(codes) - 2, codes[np.minimum(quote + 2, len(codes) - 1)], 0)
    size = np.zeros(len(quote), np.int64)
    for letter in b"stmd":
        size[one == letter] = 2
    for first, second in (b"ll", b"ve", b"re"):
        size[(one == first) & (two == second)] = 3
    return quote[size > 0], size[size > 0]

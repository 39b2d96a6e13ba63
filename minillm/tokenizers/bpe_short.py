"""Short texts to tokens, word by word: for a few words a dict is faster than any array.

The words are cut by Python's own `re`, which knows no \\p{L}. So that it need not, each character
beyond ASCII is first replaced by an ASCII one of its class: a letter by a letter, a number by a
digit, white space by white space, another by another. The pattern then is written out for ASCII.
"""

import re

import numpy as np

from minillm.tokenizers.base import utf8
from minillm.tokenizers.pretokenize import PATTERNS
from minillm.tokenizers.unicode_classes import LETTER, NUMBER, OTHER, SPACE, code_point_classes

__all__ = ["ShortTexts"]

KEPT = 1 << 16  # words that are remembered, then all are forgotten
STAND_INS = {LETTER: "a", NUMBER: "0", SPACE: "\t", OTHER: "!"}
LONG_S = 0x17F
LONGEST = 64  # characters of a word that is remembered


class ShortTexts:
    """Texts to ids with a dict of the words seen before.

    Parameters
    ----------
    pattern : str, one of PATTERNS
    encode_word : function of a word's bytes: its ids, a list
    """

    def __init__(self, pattern, encode_word):
        self._find = _ascii_pattern(pattern).findall
        self._classes = _Classes()
        if "(?i:" in PATTERNS[pattern]:
            self._classes[LONG_S] = "s"  # but for its case it is the s of a contraction
        self._ids_of = _Words(encode_word).__getitem__

    def encode(self, text):
        """The ids of a text, int32 (N,)."""
        words = self._find(text) if text.isascii() else self.words(text)
        return np.frombuffer(bytearray().join(map(self._ids_of, words)), np.int32)

    def words(self, text):
        """The words of a text, a list of str.

        Raises
        ------
        UserError
            for a lone surrogate.
        """
        utf8(text)  # refuses what is none
        words, start = [], 0
        for stand_in in self._find(text.translate(self._classes)):
            stop = start + len(stand_in)
            words.append(text[start:stop])
            start = stop
        return words


class _Words(dict):
    """Words to their ids' bytes, as int32; what is missing is encoded."""

    def __init__(self, encode_word):
        self._encode_word = encode_word

    def __missing__(self, word):
        ids = np.array(self._encode_word(word.encode()), np.int32).tobytes()
        if len(word) <= LONGEST:
            if len(self) >= KEPT:
                self.clear()
            self[word] = ids
        return ids


class _Classes(dict):
    """Code points to the ASCII characters that stand in for them."""

    def __missing__(self, code):
        stand_in = chr(code) if code < 128 else STAND_INS[code_point_classes()[code]]
        self[code] = stand_in
        return stand_in


def _ascii_pattern(name):
    pattern = PATTERNS[name].replace("$", r"\Z")
    inside = re.sub(
        r"\[[^]]*\]",
        lambda found: found.group().replace(r"\p{L}", "A-Za-z").replace(r"\p{N}", "0-9"),
        pattern,
    )
    return re.compile(inside.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"), re.ASCII)

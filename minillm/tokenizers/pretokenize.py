"""Cutting a text into words before byte-level BPE, which never merges across their borders."""

import functools

import numpy as np
import regex

from minillm.tokenizers.unicode_classes import LETTER, NUMBER, RANGES, SPACE

__all__ = ["PATTERNS", "safe_cut", "split_simple", "word_starts"]

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


def split_simple(text, pattern):
    return [m.group() for m in _compiled(pattern).finditer(text)]


def word_starts(data, pattern):
    """int64 (W,), the byte at which each word of the UTF-8 text `data` begins."""
    words = split_simple(bytes(data).decode(), pattern)
    sizes = [len(w.encode()) for w in words]
    return np.cumsum([0, *sizes])[:-1].astype(np.int64)


def safe_cut(text, pattern):
    """How many characters from the start can be cut off: neither side's words change by it."""
    for place in range(len(text) - 1, 0, -1):
        if text[place] == " " and not text[place - 1].isspace():
            return place
    return 0


@functools.cache
def _compiled(name):
    """The pattern with the code points of each class written out, so that all versions agree."""
    pattern = PATTERNS[name].replace(r"(?!\S)", r"(?=\s|\Z)")
    for escape, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        codes = "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in RANGES[kind])
        pattern = pattern.replace(escape, f"[{codes}]")
    return regex.compile(pattern, regex.V1)  # version 1 has sets within sets

"""The words that BLEU counts: the tokenizers of the field's standard tool, sacrebleu (Post 2018,
arXiv:1804.08771), so that scores compare.

Each puts spaces around some characters, by a few patterns in order, then splits at white space::

    13a   of the script mteval-v13a.pl (NIST): ASCII punctuation, numbers kept whole; the default
    intl  of mteval-v14.pl: every punctuation mark and symbol of Unicode, as the version of the
          `regex` package knows it, which is what sacrebleu goes by too
    zh    each Chinese character alone, 13a's patterns for the rest
    char  every character
    none  white space alone

Left out: the tokenizers that need a model or a dictionary (spm, ja-mecab, ko-mecab).
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import regex

from minillm.metrics.checks import named
from minillm.metrics.ngram_overlap import number_words

__all__ = ["TOKENIZERS", "tokenize", "tokenize_all"]

EDGE = "\n"  # marks where a line begins or ends with the word; no word holds white space

# (pattern, the number of its group that spaces are put around)
WESTERN = (
    (re.compile(r"([!-&(-+:-@\[-`{-~/])"), 1),  # ASCII signs but ' , - .
    (re.compile(r"([^0-9])([.,])"), 2),  # a point or comma, unless a digit is before it ...
    (re.compile(r"([.,])([^0-9])"), 1),  # ... and after it
    (re.compile(r"([0-9])(-)"), 2),  # a dash after a digit
)
INTERNATIONAL = (
    (regex.compile(r"(\P{N})(\p{P})"), 2),
    (regex.compile(r"(\p{P})(\P{N})"), 1),
    (regex.compile(r"(\p{S})"), 1),
)
# The script's table of Chinese blocks, as sacrebleu has it. Its two blocks beyond U+FFFF are
# written with four hexadecimal digits and compared as strings there, so that they mean U+2001 to
# U+2A6D (dashes, arrows, mathematics) and U+2F81 to U+2FA1; rarer Chinese characters are not in it.
CHINESE = re.compile(
    "(["
    "\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff"
    "\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f"
    "\uff00-\uffef"
    "])"
)


def _western(line):
    for old, new in (("<skipped>", ""), ("-\n", ""), ("\n", " ")):
        line = line.replace(old, new)
    if "&" in line:
        for old, new in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            line = line.replace(old, new)
    return f" {line} "


@dataclasses.dataclass(frozen=True)
class Rules:
    """prepare : what is done to the line first; rules : (pattern, group), in order."""

    prepare: Callable[[str], str]
    rules: tuple[tuple[Any, int], ...] = ()

    def spaced(self, text):
        """The text with spaces around what the patterns find; quicker than `sub` by a template."""
        for pattern, group in self.rules:
            parts = pattern.split(text)  # what is between matches, and each match's groups
            each = slice(group, None, 1 + pattern.groups)
            parts[each] = [f" {part} " for part in parts[each]]
            text = "".join(parts)
        return text


TOKENIZERS = {
    "13a": Rules(_western, WESTERN),
    "intl": Rules(str, INTERNATIONAL),
    "zh": Rules(lambda line: CHINESE.sub(r" \1 ", line.strip()), WESTERN),
    "char": Rules(" ".join),
    "none": Rules(str),
}


def tokenize(line, name="13a", *, lowercase=False):
    """The tokens of one line, a list of str: the specification of `tokenize_all`.

    Raises
    ------
    UserError
        if there is no tokenizer of that name.
    """
    rules = TOKENIZERS[named("BLEU tokenizer", name, TOKENIZERS)]
    line = (line.lower() if lowercase else line).rstrip()
    return rules.spaced(rules.prepare(line)).split()


def tokenize_all(lines, name="13a", *, lowercase=False):
    """The tokens of many lines, as numbers.

    No pattern looks beyond a neighbouring character, and all take white space for a sign like any
    other: what becomes of a word depends on nothing but whether white space or the line's end is
    beside it. Each distinct word is cut once.

    Returns
    -------
    ids : int64 (N,), the tokens of line after line, equal ones equal
    lengths : int64 (lines,)
    """
    rules = TOKENIZERS[named("BLEU tokenizer", name, TOKENIZERS)]
    lowered = map(str.lower, lines) if lowercase else lines
    prepared = [rules.prepare(line.rstrip()) for line in lowered]
    rows = [line.split() for line in prepared]
    if not rules.rules:
        return number_words(rows)
    for line, row in zip(prepared, rows, strict=True):
        if row and not line[0].isspace():
            row[0] = EDGE + row[0]
        if row and not line[-1].isspace():
            row[-1] += EDGE
    return number_words(rows, lambda words: _cut(words, rules))


def _cut(words, rules):
    """The tokens of each word; all that stand between spaces go through the rules in one text."""
    pieces = [[word] for word in words]
    between = []
    for place, word in enumerate(words):
        if word.isascii() and word.isalnum():
            continue  # no rule has anything to say of letters and digits alone
        if EDGE in word:
            before, after = ("" if word.startswith(EDGE) else " ", "" if word[-1] == EDGE else " ")
            pieces[place] = rules.spaced(before + word.strip(EDGE) + after).split()
        else:
            between.append(place)
    if between:
        text = " \n ".join([words[place] for place in between])
        for place, spaced in zip(between, rules.spaced(f" {text} ").split("\n"), strict=True):
            pieces[place] = spaced.split()
    return pieces

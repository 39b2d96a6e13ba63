"""BERT's words: a text cleaned, lower-cased, stripped of accents, cut at white space and signs.

Devlin et al. 2019 (arXiv:1810.04805), whose words are those of their code's "basic tokenizer"; here
as Hugging Face's `BertNormalizer` and `BertPreTokenizer` have them, character for character, by the
tables of bert_unicode.py. What becomes of a character depends on the character alone, but for
one thing: accents that follow one another are put in canonical order before most are dropped.
"""

import dataclasses
import functools
import re
import unicodedata

import regex

from minillm.tokenizers.bert_unicode import (
    CHINESE,
    COMBINING,
    DECOMPOSED,
    LOWER_SINCE_14,
    NONSPACING,
    PUNCTUATION,
    REMOVED,
    SPACE,
)

__all__ = ["BertText"]

ASCII_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
WORD = re.compile(f"[{PUNCTUATION.within}]|[^{PUNCTUATION.within}]+")
NEW_CAPITALS = {
    chr(code): chr(code + step)
    for first, last, step in LOWER_SINCE_14
    for code in range(first, last + 1)
}


@dataclasses.dataclass(frozen=True)
class BertText:
    """The settings, and what they make of a text.

    Parameters
    ----------
    lowercase : bool
    strip_accents : bool or None, None: where `lowercase`
    clean : bool, drop control characters, and make all white space blanks
    chinese : bool, make each Chinese character a word
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    clean: bool = True
    chinese: bool = True

    @functools.cached_property
    def strip(self):
        return self.lowercase if self.strip_accents is None else self.strip_accents

    @functools.cached_property
    def chunk(self):
        """The pattern of a chunk, a piece of text whose words depend on nothing around it."""
        return re.compile(f"[{self._alone}]|[^{self._alone}{self._space}]+")

    @functools.cached_property
    def _last_edge(self):
        return regex.compile(f"(?r)[{self._alone}{self._space}]")

    @functools.cached_property
    def _alone(self):
        return re.escape(ASCII_SIGNS) + (CHINESE.within if self.chinese else "")

    @functools.cached_property
    def _space(self):
        return re.escape("".join(chr(c) for c in SPACE if not (self.clean and c in REMOVED)))

    @functools.cached_property
    def _normal(self):
        return _Normal(self)

    def cut(self, text):
        """How many characters from the start have the same words whatever follows."""
        found = self._last_edge.search(text)
        return found.end() if found else 0

    def words_of(self, chunk):
        """The words of a chunk, a list of str."""
        if self.strip and _kept_marks().search(chunk):
            return [word for word, _ in self.aligned_words_of(chunk)]
        return WORD.findall(chunk.translate(self._normal))

    def aligned_words_of(self, chunk):
        """[(word, from which character of the chunk each of its characters comes), ...]."""
        aligned = [(c, i) for i, c in enumerate(chunk) if not (self.clean and ord(c) in REMOVED)]
        if self.strip:
            aligned = [(c, i) for c, i in _decompose(aligned) if ord(c) not in NONSPACING]
        if self.lowercase:
            aligned = [(small, i) for c, i in aligned for small in _lower(c)]
        text, origin = "".join(c for c, _ in aligned), [i for _, i in aligned]
        return [(found.group(), origin[slice(*found.span())]) for found in WORD.finditer(text)]

    def words(self, text):
        """The words of a text, a list of str."""
        return [word for chunk in self.chunk.findall(text) for word in self.words_of(chunk)]


class _Normal(dict):
    """Code point -> what it becomes, found out when it is first asked for by `str.translate`."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def __missing__(self, code):
        text, result = self.text, chr(code)
        if text.clean and code in REMOVED:
            result = ""
        if text.strip:
            result = "".join(c for c in _parts(result) if ord(c) not in NONSPACING)
        if text.lowercase:
            result = "".join(map(_lower, result))
        self[code] = result
        return result


def _parts(c):
    return unicodedata.normalize("NFD", c) if c and ord(c) in DECOMPOSED else c


def _lower(c):
    return NEW_CAPITALS.get(c) or c.lower()


@functools.cache
def _kept_marks():
    """A pattern of the combining characters that stay: they may have to change places."""
    kept = [c for c in COMBINING if c not in NONSPACING]
    kept += [c for c in DECOMPOSED if any(map(kept.__contains__, map(ord, _parts(chr(c)))))]
    return re.compile("[" + re.escape("".join(map(chr, kept))) + "]")


def _decompose(aligned):
    """Canonical decomposition of [(character, origin), ...].

    A sorted run of marks keeps the order of its origins, as Hugging Face has it: the first part of
    a character advances to the next origin, its other parts share that of what stands before them.
    """
    parts = [(p, k == 0) for c, _ in aligned for k, p in enumerate(_parts(c))]
    order, run = [], []
    for part in parts:
        if ord(part[0]) in COMBINING:
            run.append(part)
            continue
        order += sorted(run, key=_combining_class)
        order.append(part)
        run = []
    order += sorted(run, key=_combining_class)
    place, result = -1, []
    for c, first in order:
        place += first
        result.append((c, aligned[place][1]))
    return result


def _combining_class(part):
    return unicodedata.combining(part[0])

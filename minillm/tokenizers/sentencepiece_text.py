"""How SentencePiece prepares a text: its table of replacements, spaces written as U+2581.

The table comes with the model (see sentencepiece_charsmap.py), so that a text is treated alike
whatever Python knows of Unicode. At each place the longest rule that fits is applied, and what it
gives is not looked at again.

`Normalizer.align` does that, one character after the other; `Normalizer.prepare` does the same with
operations on whole strings, and leaves to `align` what those cannot do.
"""

import re

import numpy as np

from minillm.tokenizers.sentencepiece_charsmap import Charsmap

__all__ = ["SPACE", "Normalizer"]

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space inside pieces


class Normalizer:
    """Prepares texts by `rules`.

    Parameters
    ----------
    rules : sentencepiece_model.Rules
    symbols : strings that the table leaves alone, the longest where several fit
    suffix : bool, whether the space that is added to each text stands at its end

    Attributes
    ----------
    table : Charsmap
    lossless : bool, whether all but U+2581 can be had back

    Raises
    ------
    UserError
        for a damaged table.
    """

    def __init__(self, rules, symbols=(), *, suffix=False):
        self.rules, self.suffix = rules, suffix
        self.table = Charsmap(rules.charsmap)
        self.lossless = not (rules.charsmap or rules.remove_extra_whitespaces or suffix)
        self._space = SPACE if rules.escape_whitespaces else " "
        # A rule of several characters is rare in a text, and sought by those after its first.
        first, later = _any_of(self.table.first), _any_of(self.table.later)
        self._stretch = re.compile(f"{first}{later}+")
        ordered = sorted(symbols, key=len, reverse=True)
        self._symbols = ordered and re.compile("|".join(map(re.escape, ordered)))
        self._slow = suffix or (self.table.spaces and rules.remove_extra_whitespaces)

    def prepare(self, text, *, first=True):
        """The text in which pieces are looked for; `first` is False where it goes on after a cut.

        A cut is behind a character that is no space; no rule or symbol reaches across it.
        """
        if not text:
            return ""
        if self._slow or (self._symbols and self._symbols.search(text)):
            return self.align(text, first=first)[0]
        if self.table.single:
            text = self._replace(text)
        if self.rules.remove_extra_whitespaces:
            text = re.sub("  +", " ", text)
            text = text.removeprefix(" ") if first else text
        if first and self.rules.add_dummy_prefix:
            text = " " + text
        text = text.replace(" ", self._space)
        return text.rstrip(self._space) if self.rules.remove_extra_whitespaces else text

    def _replace(self, text):
        present = set(text)
        if present.isdisjoint(self.table.later):
            return self._replace_single(text, present)
        parts, start = [], 0
        for found in self._stretch.finditer(text):
            parts.append(text[start : found.start()].translate(self.table.single))
            stretch, place = found.group(), 0
            while place < len(stretch):
                new, length = self._rule(stretch, place)
                parts.append(new)
                place += length
            start = found.end()
        return "".join(parts) + text[start:].translate(self.table.single)

    def _replace_single(self, text, present):
        """`text.translate`, one character after the other where that is the same: it is faster."""
        rules = {c: self.table.single[ord(c)] for c in present if ord(c) in self.table.single}
        if len(rules) > 8 or any(c in rules for new in rules.values() for c in new):
            return text.translate(self.table.single)
        for c, new in rules.items():
            text = text.replace(c, new)
        return text

    def _rule(self, text, place):
        """What the longest rule at a place gives, and how many characters it takes."""
        new, length = self.table.longest(text, place)
        return (text[place], 1) if new is None else (new, length)

    def align(self, text, *, first=True):
        """As `prepare`, and where it comes from.

        Returns
        -------
        prepared : str of M characters
        origin : int64 (M + 1,), the place in `text` of what became each character; last, the end
        """
        trim = self.rules.remove_extra_whitespaces
        out, origin, consumed = [], [], 0
        if trim and first:
            while consumed < len(text) and self._next(text, consumed) == (" ", 1):
                consumed += 1
        if consumed == len(text):
            return "", np.array([consumed])
        added = self.rules.add_dummy_prefix
        if added and first and not self.suffix:
            out, origin = [self._space], [consumed]
        after_space = trim and first
        while consumed < len(text):
            new, length = self._next(text, consumed)
            new = new.lstrip(" ") if after_space else new
            if new:
                out += new.replace(" ", self._space)
                origin += [consumed] * len(new)
                after_space = trim and new.endswith(" ")
            consumed += length
        while trim and out and out[-1] == self._space:
            out.pop()
            consumed = origin.pop()
        if added and self.suffix:
            out.append(self._space)
            origin.append(consumed)
        return "".join(out), np.array([*origin, consumed])

    def _next(self, text, place):
        if self._symbols and (found := self._symbols.match(text, place)):
            return found.group(), len(found.group())
        return self._rule(text, place)


def _any_of(characters):
    inside = "".join(map(re.escape, sorted(characters)))
    return f"[{inside}]" if inside else "(?!)"

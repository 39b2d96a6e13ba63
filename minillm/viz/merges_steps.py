"""Byte-pair encoding at work: how the bytes of a text are joined, one merge after another.

The steps as data; merges_picture.py draws them, merges.py lets a reader step through them.
"""

import dataclasses
from itertools import pairwise

from minillm.errors import UserError
from minillm.tokenizers import BPETokenizer
from minillm.tokenizers.base import utf8
from minillm.tokenizers.pretokenize import split_simple
from minillm.viz.tokens import visible

__all__ = ["Merge", "label", "merge_steps"]

MOST = 400  # bytes of text; more could neither be drawn nor stepped through


@dataclasses.dataclass(frozen=True)
class Merge:
    """The text after a merge.

    Attributes
    ----------
    pair : (bytes, bytes) that was joined, None before the first merge
    rank : int, its place in the list of merges, from 0; None before the first, and where a word
        became a token without one
    words : tuple of words, each a tuple of bytes, its tokens so far
    """

    pair: tuple | None
    rank: int | None
    words: tuple

    @property
    def tokens(self):
        """How many tokens the text has so far."""
        return sum(map(len, self.words))


def merge_steps(text, tokenizer):
    """Encode a text a merge at a time: the earliest learned of those that fit, wherever it fits.

    Words do not touch one another, so the order in which they are joined changes nothing.

    Parameters
    ----------
    text : str, of 1 to MOST bytes
    tokenizer : BPETokenizer

    Returns
    -------
    steps : list of Merge, the first with every byte for itself, the last as `encode` has it

    Raises
    ------
    UserError
        for another kind of tokenizer, no text, or more than there is room for.
    """
    if not isinstance(tokenizer, BPETokenizer):
        raise UserError(f"merges are a BPE tokenizer's, got a {type(tokenizer).__name__}")
    if not 1 <= (size := len(utf8(text))) <= MOST:
        raise UserError(f"a text to merge must have 1 to {MOST} bytes, got {size}")
    if tokenizer.add_prefix_space and text[0] != " ":
        text = " " + text
    rank = {pair: place for place, pair in enumerate(tokenizer.ranked_pairs())}
    whole = [utf8(word) for word in split_simple(text, tokenizer.pattern)]
    words = tuple(tuple(bytes([byte]) for byte in word) for word in whole)
    steps = [Merge(None, None, words)]
    while found := {pair for word in words for pair in pairwise(word) if pair in rank}:
        best = min(found, key=rank.__getitem__)
        words = tuple(_joined(word, best) for word in words)
        steps.append(Merge(best, rank[best], words))
    if tokenizer.whole_words:  # a word that is a token is one, whether its merges lead there or not
        known = tokenizer.vocabulary
        last = tuple((w,) if w in known else parts for w, parts in zip(whole, words, strict=True))
        if last != words:
            steps.append(Merge(None, None, last))
    return steps


def _joined(parts, pair):
    """A word's tokens with the pair joined wherever it stands, from the left."""
    result, i = [], 0
    while i < len(parts):
        size = 2 if parts[i : i + 2] == pair else 1
        result.append(b"".join(parts[i : i + size]))
        i += size
    return tuple(result)


def label(token):
    """A token's text, blanks as signs; its bytes in hexadecimal where they are no UTF-8."""
    try:
        return visible(token.decode())
    except UnicodeDecodeError:
        return token.hex(" ").upper()

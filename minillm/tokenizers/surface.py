"""What every tokenizer offers besides its own way of cutting a text: special tokens, offsets,
batches, texts larger than memory, files."""

import json
import re
from typing import Any, ClassVar

import numpy as np

from minillm.errors import UserError
from minillm.files import read_chunks, read_json, write_text
from minillm.tokenizers.base import check_ids

__all__ = ["Surface", "regroup"]


class Surface:
    """The base of the tokenizers; a kind brings `_encode`, `_spans` and `_text_of`.

    Special tokens have names, such as "<|endoftext|>". In a text they are text like any other,
    unless `special` asks for them by name: nobody's document may end itself.

    Attributes
    ----------
    special_tokens : dict, name -> id
    """

    kind: ClassVar[str]
    vocab_size: int
    special_tokens: dict[str, int]

    def encode(self, text, *, special=()):
        """The ids of a text.

        Parameters
        ----------
        text : str
        special : names of special tokens to look for in the text, or "all"

        Returns
        -------
        ids : int32 (N,)

        Raises
        ------
        UserError
            for a lone surrogate in the text, or a special token that there is not.
        ValueError
            for what is no str.
        """
        _check_text(text)
        if not special:
            return self._encode(text)
        pieces = [
            self._encode(piece) if name is None else np.array([self.special_tokens[name]], np.int32)
            for piece, name, _ in self._parts(text, special)
        ]
        return np.concatenate([np.empty(0, np.int32), *pieces])

    def encode_with_offsets(self, text, *, special=()):
        """The ids of a text and where in it each token stands.

        Returns
        -------
        ids : int32 (N,)
        spans : int64 (N, 2), the first character of each token and the one after its last; a token
            that holds a part of a character has all of that character
        """
        _check_text(text)
        if not special:
            return self._spans(text)
        ids, spans = [np.empty(0, np.int32)], [np.empty((0, 2), np.int64)]
        for piece, name, start in self._parts(text, special):
            if name is None:
                found, where = self._spans(piece)
            else:
                found = np.array([self.special_tokens[name]], np.int32)
                where = np.array([[0, len(piece)]])
            ids.append(found)
            spans.append(where + start)
        return np.concatenate(ids), np.concatenate(spans)

    def encode_batch(self, texts, *, special=()):
        """The ids of each of several texts, a list of int32 arrays.

        Raises
        ------
        ValueError
            for one text, which would be taken for a list of its characters.
        """
        if isinstance(texts, str):
            raise ValueError("texts must be a list of str, got one str")
        return [self.encode(text, special=special) for text in texts]

    def encode_stream(self, chunks, *, special=()):
        """Encode a text that comes in chunks, cut anywhere; holds a few of them at a time.

        Yields int32 arrays, which one after the other are what `encode` makes of the whole.
        """
        names = self._names(special)

        def cut(text):
            return self._cut_beside(text, names)

        for piece in regroup(chunks, cut):
            yield self.encode(piece, special=special)

    def encode_file(self, path, *, special=()):
        """`encode_stream` of a file in UTF-8, however large.

        Raises
        ------
        UserError
            if it cannot be read or is not UTF-8.
        """
        return self.encode_stream(read_chunks(path), special=special)

    def decode(self, ids, *, special=False):
        """The text of ids; special tokens are left out, or stand by name where `special`.

        Raises
        ------
        ValueError
            for ids that are no integers or out of range.
        """
        ids = check_ids(ids, self.vocab_size)
        names = {i: name for name, i in self.special_tokens.items()}
        where = np.flatnonzero(np.isin(ids, list(names)))
        if not special or len(where) == 0:
            return self._text_of(np.delete(ids, where))
        pieces, start = [], 0
        for place in where:
            pieces += [self._text_of(ids[start:place]), names[int(ids[place])]]
            start = int(place) + 1
        return "".join([*pieces, self._text_of(ids[start:])])

    def decode_batch(self, rows, *, special=False):
        """The text of each of several rows of ids."""
        return [self.decode(ids, special=special) for ids in rows]

    def token_name(self, id):
        """How a token is shown: its text, white space and all, or its name.

        Raises
        ------
        ValueError
            for an id out of range.
        """
        return self.decode([id], special=True)

    def save(self, path):
        """Write the tokenizer to a JSON file, whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path):
        """The tokenizer that `save` wrote.

        Raises
        ------
        UserError
            if the file is missing, damaged, or of another kind.
        """
        saved = read_json(path)
        if saved.get("kind") != cls.kind:
            raise UserError(f"{path}: a tokenizer of kind {saved.get('kind')!r}, not {cls.kind!r}")
        try:
            return cls.from_dict(saved)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_dict(cls, saved):
        raise NotImplementedError

    def _encode(self, text):
        """The ids of a text without special tokens, int32 (N,)."""
        raise NotImplementedError

    def _spans(self, text):
        """As `encode_with_offsets`, without special tokens."""
        raise NotImplementedError

    def _text_of(self, ids):
        """The text of ids none of which is special."""
        raise NotImplementedError

    def _cut(self, text):
        """How many characters from the start give the same tokens whatever follows the text.

        What comes after them must not depend on them either. All, for a tokenizer by characters.
        """
        return len(text)

    def _cut_beside(self, text, names):
        """`_cut`, beside special tokens in the text and a first part of one at its end."""
        start = 0
        for found in _pattern(names).finditer(text) if names else ():
            if _begins_one(text[found.start() :], names):  # "<a>" at the end may become "<a>b"
                return start + self._cut(text[start : found.start()])
            start = found.end()
        longest = max(map(len, names), default=0)
        for stop in range(max(start, len(text) - longest + 1), len(text)):
            if _begins_one(text[stop:], names):
                return start + self._cut(text[start:stop])
        return start + self._cut(text[start:])

    def _names(self, special):
        if isinstance(special, str) and special == "all":
            return list(self.special_tokens)
        names = [special] if isinstance(special, str) else list(special)
        for name in names:
            if name not in self.special_tokens:
                known = ", ".join(self.special_tokens) or "none"
                raise UserError(f"no special token {name!r}; there are: {known}")
        return names

    def _parts(self, text, special):
        """(piece, None or the name of the special token that it is, where it begins)."""
        names, start = self._names(special), 0
        for found in _pattern(names).finditer(text) if names else ():
            if found.start() > start:
                yield text[start : found.start()], None, start
            yield found.group(), found.group(), found.start()
            start = found.end()
        if start < len(text):
            yield text[start:], None, start


def regroup(chunks, cut):
    """Cut a text that comes in chunks anew, at places that `cut` finds safe.

    Where it finds none, it is asked again only when there is twice the text: else a long text
    without such a place would be gone through from its start at every chunk.

    Parameters
    ----------
    chunks : iterable of str
    cut : function of a text: how many characters from its start can go, 0 for none as yet

    Yields
    ------
    pieces : str, none empty, which one after the other are the text
    """
    held: list[str] = []
    length = wanted = 0
    for chunk in chunks:
        held.append(chunk)
        length += len(chunk)
        if length < wanted:
            continue
        text = "".join(held)
        size = cut(text)
        if size:
            yield text[:size]
        held, length = [text[size:]], length - size
        wanted = 0 if size else 2 * length
    if length:
        yield "".join(held)


def _check_text(text):
    if not isinstance(text, str):
        raise ValueError(f"text must be a str, got {type(text).__name__}")


def _begins_one(text, names):
    """Whether a name may still come of a text, which is not all of it yet."""
    return any(len(text) < len(name) and name.startswith(text) for name in names)


def _pattern(names):
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))

"""One token a character (a Unicode code point), the vocabulary taken from the training text."""

import numpy as np

from minillm.errors import UserError
from minillm.tokenizers.base import END, code_points, documents, utf8
from minillm.tokenizers.surface import Surface

__all__ = ["CharTokenizer"]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class CharTokenizer(Surface):
    """Characters in the order of their code points, then the end token, then the unknown one.

    A character that the vocabulary lacks becomes `unknown_id`, which decodes to U+FFFD; the end
    token decodes to nothing.

    Parameters
    ----------
    characters : str, each character once; its place is its id

    Raises
    ------
    UserError
        if there is no character, one comes twice, or one is a lone surrogate.
    """

    kind = "char"
    lossless = True

    def __init__(self, characters):
        codes = code_points(characters)  # (V - 2,)
        if len(codes) == 0:
            raise UserError("a character vocabulary needs at least one character, got none")
        if len(np.unique(codes)) < len(codes):
            raise UserError("a character vocabulary must hold each character once")
        self.characters = characters
        self.end_id = len(codes)
        self.unknown_id = len(codes) + 1
        self.vocab_size = len(codes) + 2
        self.special_tokens = {END: self.end_id}
        # An entry for each code point up to the largest known, and a last one for all beyond.
        self._id_of = np.full(int(codes.max()) + 2, self.unknown_id, np.int32)
        self._id_of[codes] = np.arange(len(codes), dtype=np.int32)
        self._code_of = np.append(codes, [0, ord(REPLACEMENT)]).astype("<u4")  # (V,)

    @classmethod
    def train(cls, texts):
        """The vocabulary of a text, or of several in turn; give it the training text alone."""
        codes = np.empty(0, "<u4")
        for text in documents(texts):
            codes = np.union1d(codes, code_points(text)).astype("<u4")
        return cls(codes.tobytes().decode("utf-32-le"))

    def _encode(self, text):
        codes = code_points(text)
        return self._id_of[np.minimum(codes, len(self._id_of) - 1)]

    def _spans(self, text):
        ids = self._encode(text)
        start = np.arange(len(ids))
        return ids, np.stack([start, start + 1], axis=1)

    def _text_of(self, ids):
        return self._code_of[ids].tobytes().decode("utf-32-le")

    def unknown_bytes(self, text):
        """The UTF-8 bytes of the characters that the vocabulary lacks."""
        lost = code_points(text)[self.encode(text) == self.unknown_id]
        return len(utf8(lost.tobytes().decode("utf-32-le")))

    def to_dict(self):
        return {"kind": self.kind, "characters": self.characters}

    @classmethod
    def from_dict(cls, saved):
        characters = saved.get("characters")
        if not isinstance(characters, str):
            raise UserError("a saved char tokenizer must have its 'characters' as a string")
        return cls(characters)

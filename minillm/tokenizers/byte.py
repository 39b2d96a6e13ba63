"""One token a UTF-8 byte: 256 ids, then the end token. Nothing is unknown to it."""

import numpy as np

from minillm.tokenizers.base import END, documents, utf8
from minillm.tokenizers.surface import Surface

__all__ = ["ByteTokenizer"]


class ByteTokenizer(Surface):
    """The bytes of a text's UTF-8 as they are; the end token, 256, decodes to nothing.

    Ids that a model made up need not be valid UTF-8: each faulty piece decodes to U+FFFD.
    """

    kind = "byte"
    lossless = True
    vocab_size = 257
    end_id = 256
    unknown_id = None

    def __init__(self):
        self.special_tokens = {END: self.end_id}

    @classmethod
    def train(cls, texts):
        """Nothing to learn: every text has the same vocabulary.

        Parameters
        ----------
        texts : str, or an iterable of str; read, and refused where another kind refuses it
        """
        for text in documents(texts):
            utf8(text)  # refuses lone surrogates
        return cls()

    def _encode(self, text):
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int32)

    def _spans(self, text):
        ids = self._encode(text)
        start = np.cumsum(ids & 0xC0 != 0x80) - 1  # one byte of a character is not 10xxxxxx
        return ids, np.stack([start, start + 1], axis=1)

    def _text_of(self, ids):
        return ids.astype(np.uint8).tobytes().decode(errors="replace")

    def token_name(self, id):
        """A character of ASCII as it is, any other byte as <0xE6>."""
        return f"<0x{id:02X}>" if 128 <= id < self.end_id else super().token_name(id)

    def unknown_bytes(self, text):
        return 0

    def to_dict(self):
        return {"kind": self.kind}

    @classmethod
    def from_dict(cls, saved):
        return cls()

"""One token a UTF-8 byte: 256 ids, then the end token. Nothing is unknown to it."""

import numpy as np

from minillm.tokenizers.base import check_ids, utf8

__all__ = ["ByteTokenizer"]


class ByteTokenizer:
    """The bytes of a text's UTF-8 as they are; the end token, 256, decodes to nothing.

    Ids that a model made up need not be valid UTF-8: each faulty piece decodes to U+FFFD.
    """

    kind = "byte"
    lossless = True
    vocab_size = 257
    end_id = 256
    unknown_id = None

    @classmethod
    def train(cls, text):
        """Nothing to learn: every text has the same vocabulary."""
        return cls()

    def encode(self, text):
        """The ids of a text, int32 (N,), one for each byte of its UTF-8."""
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int32)

    def decode(self, ids):
        ids = check_ids(ids, self.vocab_size)
        return ids[ids != self.end_id].astype(np.uint8).tobytes().decode(errors="replace")

    def unknown_bytes(self, text):
        return 0

    def to_dict(self):
        return {"kind": self.kind}

    @classmethod
    def from_dict(cls, saved):
        return cls()

"""From the pieces of a unigram model back to text, as SentencePiece does it."""

import codecs

from minillm.tokenizers.sentencepiece_model import BYTE, CONTROL, UNKNOWN
from minillm.tokenizers.sentencepiece_text import SPACE, Normalizer

__all__ = ["Decoder"]


class Decoder:
    """Decodes ids of a vocabulary; `byte_of` says which are bytes: a dict, id -> byte."""

    def __init__(self, vocabulary):
        v = self._vocabulary = vocabulary
        self._surface = [piece.replace(SPACE, " ") for piece in v.pieces]
        self.byte_of = {}
        for i, (piece, kind) in enumerate(zip(v.pieces, v.types, strict=True)):
            if kind == CONTROL:
                self._surface[i] = ""
            elif kind == UNKNOWN:
                self._surface[i] = v.unknown_surface
            elif kind == BYTE:
                self.byte_of[i] = int(piece[1:-1], 16)
        self._surface.append("")  # an end token behind all pieces
        self._added = [*(piece.startswith(SPACE) for piece in v.pieces), False]
        self._denormalizer = Normalizer(v.denormalize) if v.denormalize else None

    def text_of(self, tokens):
        """The text of a list of ids."""
        rules, opening = self._vocabulary.rules, ""
        tokens = self._join_bytes(tokens) if self.byte_of else tokens
        if rules.add_dummy_prefix or rules.remove_extra_whitespaces:
            opening, tokens = self._opening(tokens)
        text = opening + "".join(t if isinstance(t, str) else self._surface[t] for t in tokens)
        return self._denormalizer.prepare(text) if self._denormalizer else text

    def _opening(self, tokens):
        """The text of the first tokens, less the space that encoding put there, and the others."""
        for place, token in enumerate(tokens):
            if isinstance(token, str):
                return token, tokens[place + 1 :]
            added = self._added[token]
            text = self._surface[token][1 if added else 0 :]
            if text or (added and not self._vocabulary.rules.remove_extra_whitespaces):
                return text, tokens[place + 1 :]
        return "", []

    def _join_bytes(self, tokens):
        """The tokens, each run of bytes as the text that it is the UTF-8 of."""
        joined, run = [], bytearray()
        for token in [*tokens, None]:
            if token in self.byte_of:
                run.append(self.byte_of[token])
                continue
            if run:
                joined.append(run.decode("utf-8", "minillm.bytewise"))
                run.clear()
            joined.append(token)
        return joined[:-1]


def _replace_byte(error):
    """U+FFFD for each byte that is no UTF-8; Python's own handler takes several together."""
    return "\ufffd", error.start + 1


codecs.register_error("minillm.bytewise", _replace_byte)

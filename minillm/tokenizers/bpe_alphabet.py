"""GPT-2's way to write bytes as visible characters (Radford et al. 2019, encoder.py).

Files that hold tokens as strings, tokenizer.json, vocab.json and merges.txt, write each byte as one
character: printable ASCII and Latin-1 as itself, each other byte as one from U+0100 on, in order.
"""

from minillm.errors import UserError
from minillm.tokenizers.bpe_simple import BYTE_ORDER

__all__ = ["to_bytes", "to_text"]

_FIRST_OTHER = next(i for i, byte in enumerate(BYTE_ORDER) if i and byte < BYTE_ORDER[i - 1])
_CHARACTER_OF = {
    byte: chr(byte) if i < _FIRST_OTHER else chr(0x100 + i - _FIRST_OTHER)
    for i, byte in enumerate(BYTE_ORDER)
}
_BYTE_OF = {ord(character): byte for byte, character in _CHARACTER_OF.items()}


def to_text(token):
    """A token's bytes as visible characters: b" the" is "Ġthe"."""
    return token.decode("latin-1").translate(_CHARACTER_OF)


def to_bytes(text):
    """The bytes that `to_text` wrote.

    Raises
    ------
    UserError
        for a character that stands for no byte.
    """
    try:
        return bytes(map(_BYTE_OF.__getitem__, map(ord, text)))
    except KeyError as error:
        code = error.args[0]
        raise UserError(
            f"token {text!r} is not written in byte-level characters: "
            f"U+{code:04X} stands for no byte"
        ) from None

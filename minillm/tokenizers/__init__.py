"""Text to ids and back."""

from minillm.errors import UserError
from minillm.tokenizers.base import Tokenizer
from minillm.tokenizers.byte import ByteTokenizer
from minillm.tokenizers.char import CharTokenizer

__all__ = [
    "KINDS",
    "ByteTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "make_tokenizer",
]

KINDS = {"char": CharTokenizer, "byte": ByteTokenizer}


def make_tokenizer(kind, texts, **settings):
    """Train a tokenizer of a kind on a text, or several in turn (the training texts alone).

    Raises
    ------
    UserError
        for a kind that does not exist, or a text that it cannot be trained on.
    """
    return _class_of(kind).train(texts, **settings)


def load_tokenizer(saved):
    """The tokenizer that `to_dict` described.

    Raises
    ------
    UserError
        if the description is none that `to_dict` wrote.
    """
    if not isinstance(saved, dict):
        raise UserError(f"a saved tokenizer must be a JSON object, got {type(saved).__name__}")
    return _class_of(saved.get("kind")).from_dict(saved)


def _class_of(kind):
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"unknown tokenizer {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind]

"""What every tokenizer offers, and the checks that all of them share.

A tokenizer turns text into ids and back. Beside the ids that text encodes to it has special ones,
which no text encodes to and which decode to nothing: at least `end_id`, which stands after every
document and, as context, before the first token of the next.
"""

from typing import Any, ClassVar, Protocol

import numpy as np

from minillm.errors import UserError

__all__ = ["END", "Tokenizer", "check_ids", "code_points", "documents", "special_names", "utf8"]

END = "<|endoftext|>"  # the name of the end token, as GPT-2's


class Tokenizer(Protocol):
    """The surface that data, metrics, models and generation rely on.

    Attributes
    ----------
    kind : str, the name under which `load_tokenizer` finds the class
    vocab_size : int, all ids are below it, special ones included
    end_id : int, the special token after a document
    unknown_id : int or None, the token of what the vocabulary lacks; None where it lacks nothing
    lossless : bool, whether decoding gives the text back, unknown tokens aside

    See `minillm.tokenizers.surface` for what all of them have besides: special tokens, offsets,
    batches, streams, files.
    """

    kind: ClassVar[str]
    lossless: ClassVar[bool]
    vocab_size: int
    end_id: int
    unknown_id: int | None

    def encode(self, text: str, *, special: Any = ()) -> np.ndarray:
        """The ids of a text, int32 (N,); a special one only where `special` names it."""
        ...

    def decode(self, ids: Any, *, special: bool = False) -> str:
        """The text of ids; special tokens are left out, or stand by name where `special`."""
        ...

    def unknown_bytes(self, text: str) -> int:
        """How many of the text's UTF-8 bytes are lost in unknown tokens."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        ...


def documents(texts):
    """What a tokenizer is trained on, one text after the other: a str is one, else it holds them.

    Raises
    ------
    ValueError
        for what is no text.
    """
    for text in [texts] if isinstance(texts, str) else texts:
        if not isinstance(text, str):
            raise ValueError(f"a text must be a str, got {type(text).__name__}")
        yield text


def special_names(names):
    """The names of special tokens as a list; a str is one name, not the list of its letters.

    Parameters
    ----------
    names : str, or an iterable of str, such as a dict of name -> id

    Raises
    ------
    UserError
        for a name that is no str, empty, holds a lone surrogate, or comes twice.
    """
    try:
        names = [names] if isinstance(names, str) else list(names)
    except TypeError:
        raise UserError(f"special tokens must be names, got {names!r:.60}") from None
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"a special token must have a name, got {name!r:.60}")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"the special token {name!a} holds a lone surrogate") from None
        if name in seen:
            raise UserError(f"the special token {name!r} comes twice")
        seen.add(name)
    return names


def check_ids(ids, vocab_size):
    """Ids as a 1-D integer array, every one in [0, vocab_size).

    Raises
    ------
    ValueError
        naming the shape, the dtype or the first id that is out of range.
    """
    ids = np.asarray(ids)
    if ids.size == 0 and ids.ndim == 1:
        return ids.astype(np.int32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids must be 1-D integers, got {ids.dtype} of shape {ids.shape}")
    if ids.min() < 0 or ids.max() >= vocab_size:
        where = int(np.argmax((ids < 0) | (ids >= vocab_size)))
        raise ValueError(
            f"ids must be in [0, {vocab_size}), got {int(ids[where])} at position {where}"
        )
    return ids


def code_points(text):
    """The Unicode code points of a text, uint32 (N,).

    Raises
    ------
    UserError
        for a lone surrogate, which is half of a character and has no UTF-8.
    """
    return np.frombuffer(_encoded(text, "utf-32-le"), dtype="<u4")


def utf8(text):
    """The UTF-8 bytes of a text.

    Raises
    ------
    UserError
        for a lone surrogate.
    """
    return _encoded(text, "utf-8")


def _encoded(text, encoding):
    if not isinstance(text, str):
        raise ValueError(f"text must be a str, got {type(text).__name__}")
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise UserError(
            f"the text holds a lone surrogate, U+{code:04X}, at character {error.start}: "
            "half of a character, which UTF-8 cannot write"
        ) from None

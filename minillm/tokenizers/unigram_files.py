"""A unigram vocabulary as JSON, and what one must hold to be one."""

import base64
import binascii
import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.tokenizers.sentencepiece_model import BYTE, NORMAL, UNKNOWN, Rules, Vocabulary

__all__ = ["check_vocabulary", "vocabulary_from_dict", "vocabulary_to_dict"]


def check_vocabulary(vocabulary):
    """Raise UserError for pieces that are twice or empty, no unknown one, or bytes missing.

    The other fields must be of their types, and texts must be such as UTF-8 can write.
    """
    v = vocabulary
    _check_types(v)
    seen = set()
    for i, (piece, kind) in enumerate(zip(v.pieces, v.types, strict=True)):
        if not isinstance(piece, str) or not piece or piece in seen:
            raise UserError(f"piece {i} is {piece!r}: pieces must be texts, each there once")
        _check_text(f"piece {i}", piece)
        if isinstance(kind, bool) or not isinstance(kind, int) or not NORMAL <= kind <= BYTE:
            raise UserError(f"piece {i}, {piece!r}, is of type {kind!r}, must be in 1 .. 6")
        seen.add(piece)
    if len(v.scores) != len(v.pieces) or not np.isfinite(v.scores).all():
        raise UserError("a unigram vocabulary needs one finite score for each piece")
    if v.types.count(UNKNOWN) > 1 or (UNKNOWN not in v.types and not v.byte_fallback):
        raise UserError("a unigram vocabulary needs one piece of the type unknown")
    names = {piece for piece, kind in zip(v.pieces, v.types, strict=True) if kind == BYTE}
    if v.byte_fallback and names != {f"<0x{byte:02X}>" for byte in range(256)}:
        raise UserError("a unigram vocabulary with byte_fallback needs the pieces of all 256 bytes")


def _check_types(described):
    """Raise UserError for a field of a Vocabulary or its Rules that is of another type."""
    for field in dataclasses.fields(described):
        value = getattr(described, field.name)
        if isinstance(value, Rules):
            _check_types(value)
        elif field.type is bool and not isinstance(value, bool):
            raise UserError(f"{field.name} must be true or false, got {value!r:.60}")
        elif field.type is str:
            _check_text(field.name, value)
            if not value and field.name in ("unk", "bos", "eos", "pad"):
                raise UserError(f"{field.name} must be a name, got ''")


def _check_text(name, value):
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text in UTF-8, got {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} holds a lone surrogate: {value!a:.60}") from None


def vocabulary_to_dict(vocabulary):
    """What JSON can hold; float32 scores come back bit for bit."""
    saved = dataclasses.asdict(vocabulary)
    saved["scores"] = [float(score) for score in vocabulary.scores]
    for name in ("rules", "denormalize"):
        if saved[name] is not None:
            saved[name]["charsmap"] = base64.b64encode(saved[name]["charsmap"]).decode()
    return saved


def vocabulary_from_dict(saved):
    """The vocabulary that `vocabulary_to_dict` described.

    Raises
    ------
    UserError
        if it is none.
    """
    names = [field.name for field in dataclasses.fields(Vocabulary)]
    if missing := [name for name in names if name not in saved]:
        raise UserError(f"a saved unigram tokenizer must have {missing[0]!r}")
    values = {name: saved[name] for name in names}
    try:
        for name in ("rules", "denormalize"):
            if values[name] is not None:
                charsmap = base64.b64decode(values[name]["charsmap"], validate=True)
                values[name] = Rules(**{**values[name], "charsmap": charsmap})
        values["scores"] = np.array(values["scores"], np.float32)
        values["pieces"], values["types"] = tuple(values["pieces"]), tuple(values["types"])
        if not len(values["pieces"]) == len(values["types"]) == values["scores"].size:
            raise ValueError("pieces, scores and types differ in number")
    except (TypeError, KeyError, ValueError, OverflowError, binascii.Error) as error:
        raise UserError(f"a saved unigram tokenizer is damaged: {error}") from None
    return Vocabulary(**values)

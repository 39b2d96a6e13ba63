"""SentencePiece's `.model` files: a protocol buffer with pieces, scores and the normalizer's rules.

The messages are `ModelProto` and what it holds, in SentencePiece's `sentencepiece_model.proto`. The
fields that change what a model does are named here by number; the rest of the trainer's settings
are dropped. Left out: models that are no unigram ones (BPE, word, character), which are refused.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from minillm.errors import UserError
from minillm.files import write_bytes

__all__ = ["BYTE", "CONTROL", "NORMAL", "UNKNOWN", "UNUSED", "USER", "Rules", "Vocabulary"]
__all__ += ["pack_model", "read_model", "unpack_model", "write_model"]

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # the types of a piece
MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "character"}

# name: (number, type, default); a type in capitals is a message, one that ends in * is repeated.
MESSAGES = {
    "Piece": {"piece": (1, "string", ""), "score": (2, "float", "0"), "type": (3, "int32", "1")},
    "Trainer": {
        "model_type": (3, "int32", "1"),
        "vocab_size": (4, "int32", "8000"),
        "treat_whitespace_as_suffix": (24, "bool", "false"),
        "allow_whitespace_only_pieces": (26, "bool", "false"),
        "control_symbols": (30, "string*", ""),
        "user_defined_symbols": (31, "string*", ""),
        "byte_fallback": (35, "bool", "false"),
        "unk_id": (40, "int32", "0"),
        "bos_id": (41, "int32", "1"),
        "eos_id": (42, "int32", "2"),
        "pad_id": (43, "int32", "-1"),
        "unk_surface": (44, "string", " \N{DOUBLE QUESTION MARK} "),
        "unk_piece": (45, "string", "<unk>"),
        "bos_piece": (46, "string", "<s>"),
        "eos_piece": (47, "string", "</s>"),
        "pad_piece": (48, "string", "<pad>"),
    },
    "Normalizer": {
        "name": (1, "string", ""),
        "precompiled_charsmap": (2, "bytes", ""),
        "add_dummy_prefix": (3, "bool", "true"),
        "remove_extra_whitespaces": (4, "bool", "true"),
        "escape_whitespaces": (5, "bool", "true"),
    },
    "Model": {
        "pieces": (1, "Piece*", ""),
        "trainer_spec": (2, "Trainer", ""),
        "normalizer_spec": (3, "Normalizer", ""),
        "denormalizer_spec": (5, "Normalizer", ""),
    },
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """How text is prepared before it is cut into pieces; `name` says which table `charsmap` is."""

    name: str = "identity"
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What a unigram model is: its pieces and what surrounds them.

    Attributes
    ----------
    pieces : tuple of V str, each once
    scores : float32 (V,), log probabilities; of no meaning for pieces that are not NORMAL
    types : tuple of V int, NORMAL and the others above
    rules : Rules
    denormalize : Rules or None, applied to decoded text
    """

    pieces: tuple
    scores: np.ndarray
    types: tuple
    rules: Rules = Rules()
    denormalize: Rules | None = None
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    unknown_surface: str = " \N{DOUBLE QUESTION MARK} "
    unk: str = "<unk>"
    bos: str = "<s>"
    eos: str = "</s>"
    pad: str = "<pad>"


def read_model(path):
    """The vocabulary in a `.model` file.

    Raises
    ------
    UserError
        if it cannot be read, is no SentencePiece model, or not a unigram one.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return unpack_model(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_model(path, vocabulary):
    """Write a `.model` file that SentencePiece loads, whole or not at all."""
    write_bytes(path, pack_model(vocabulary))


def unpack_model(data):
    """The vocabulary in the bytes of a `.model` file; raises UserError as `read_model`."""
    try:
        model = _messages()["Model"].FromString(data)
    except DecodeError:
        raise UserError("damaged, or no SentencePiece model") from None
    trainer = model.trainer_spec
    if len(model.pieces) == 0:
        raise UserError("no SentencePiece model: it holds no pieces")
    if trainer.model_type != 1:
        kind = MODEL_TYPES.get(trainer.model_type, trainer.model_type)
        raise UserError(f"a SentencePiece model of type {kind}; only unigram models can be read")
    denormalize = model.denormalizer_spec
    return Vocabulary(
        pieces=tuple(piece.piece for piece in model.pieces),
        scores=np.array([piece.score for piece in model.pieces], np.float32),
        types=tuple(piece.type for piece in model.pieces),
        rules=_rules(model.normalizer_spec),
        denormalize=_rules(denormalize) if denormalize.precompiled_charsmap else None,
        byte_fallback=trainer.byte_fallback,
        whitespace_as_suffix=trainer.treat_whitespace_as_suffix,
        unknown_surface=trainer.unk_surface,
        unk=trainer.unk_piece or "<unk>",
        bos=trainer.bos_piece or "<s>",
        eos=trainer.eos_piece or "</s>",
        pad=trainer.pad_piece or "<pad>",
    )


def pack_model(vocabulary):
    """The bytes of a `.model` file."""
    v = vocabulary
    model = _messages()["Model"]()
    for piece, score, kind in zip(v.pieces, v.scores, v.types, strict=True):
        model.pieces.add(piece=piece, score=float(score), type=kind)
    names = {"unk": v.unk, "bos": v.bos, "eos": v.eos, "pad": v.pad}
    place = {piece: i for i, piece in enumerate(v.pieces)}
    trainer = model.trainer_spec
    trainer.model_type, trainer.vocab_size = 1, len(v.pieces)
    trainer.byte_fallback = v.byte_fallback
    trainer.treat_whitespace_as_suffix = v.whitespace_as_suffix
    trainer.unk_surface = v.unknown_surface
    for role, name in names.items():
        setattr(trainer, f"{role}_piece", name)
        setattr(trainer, f"{role}_id", place.get(name, -1))
    for piece, kind in zip(v.pieces, v.types, strict=True):
        if kind == USER:
            trainer.user_defined_symbols.append(piece)
        elif kind == CONTROL and piece not in names.values():
            trainer.control_symbols.append(piece)
    _set_rules(model.normalizer_spec, v.rules)
    if v.denormalize is not None:
        _set_rules(model.denormalizer_spec, v.denormalize)
    return model.SerializeToString(deterministic=True)


def _rules(spec):
    return Rules(
        name=spec.name,
        charsmap=spec.precompiled_charsmap,
        add_dummy_prefix=spec.add_dummy_prefix,
        remove_extra_whitespaces=spec.remove_extra_whitespaces,
        escape_whitespaces=spec.escape_whitespaces,
    )


def _set_rules(spec, rules):
    spec.name, spec.precompiled_charsmap = rules.name, rules.charsmap
    spec.add_dummy_prefix = rules.add_dummy_prefix
    spec.remove_extra_whitespaces = rules.remove_extra_whitespaces
    spec.escape_whitespaces = rules.escape_whitespaces


@functools.cache
def _messages():
    """The classes of MESSAGES, in a pool of their own: the package of SentencePiece has its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="minillm_sentencepiece.proto", package="minillm_sentencepiece", syntax="proto2"
    )
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, default) in fields.items():
            label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            entry = described.field.add(name=name, number=number, label=label)
            kind = kind.rstrip("*")
            if kind in MESSAGES:
                entry.type, entry.type_name = field.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                entry.type = field.Type.Value(f"TYPE_{kind.upper()}")
                if default:
                    entry.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in MESSAGES
    }

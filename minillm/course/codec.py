"""What crosses the pipe between the grader and a student's process: plain values, arrays as npz.

A message is a tree of None, bool, int, float, str, bytes, list, tuple, dict, set and arrays of
numbers. Its arrays are the members of an npz file, read with allow_pickle=False; the rest is JSON
in a member of its own. Nothing that is read can run code, and a reader says beforehand how many
bytes it will hold.

This file and what else runs in the student's process import nothing but the standard library and
NumPy: their text is sent there.
"""

import base64
import collections
import io
import json
import math
import zipfile

import numpy as np

__all__ = ["CodecError", "decode", "encode"]

DEEPEST = 40
TREE = 1 << 24  # bytes of JSON: Python's objects take twenty times as much
NAMES = 1 << 23  # bytes of the archive's list of members
ALIKE = 32  # keys of one hash: numbers can be chosen so that all of a dict's collide
KINDS = "biufc"  # bool, integers, floats, complex


class CodecError(ValueError):
    """A value that is not plain, or bytes that are no message."""


def encode(tree):
    """The bytes of a tree.

    Raises
    ------
    CodecError
        for a value of another type, or one that holds itself.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(tree, arrays, 0)).encode()
    if len(text) > TREE:
        raise CodecError(f"more than {TREE >> 20} MB without its arrays")
    arrays["tree"] = np.frombuffer(text, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def decode(data, most=1 << 28):
    """The tree of some bytes; `most` is how many bytes its arrays may take in memory.

    Raises
    ------
    CodecError
        for anything that `encode` does not make.
    """
    try:
        # the last record, at the very end as NumPy writes it, says how long the list of members is
        if data[-22:-18] != b"PK\5\6" or b"PK\6\7" in data[-42:-22]:
            raise CodecError("no plain archive")
        if int.from_bytes(data[-10:-6], "little") > NAMES:
            raise CodecError("too many members")
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            infos = members.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise CodecError("a compressed member")
            if sum(info.file_size for info in infos) > most:
                raise CodecError(f"more than {most} bytes")
            for info in infos:
                _check_header(members, info)
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        text = arrays.pop("tree").tobytes()
        if len(text) > TREE:
            raise CodecError(f"more than {TREE >> 20} MB without its arrays")
        tree = json.loads(text)
        if any(array.dtype.kind not in KINDS for array in arrays.values()):
            raise CodecError("an array that holds no numbers")
        return _tree(tree, arrays, 0)
    except CodecError:
        raise
    except Exception as error:  # whatever damaged bytes make of zipfile, NumPy and json
        raise CodecError(f"no message: {type(error).__name__}") from None


def _check_header(members, info):
    """Refuse an array that claims more than comes: NumPy would take the memory first."""
    with members.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise CodecError("an array of another format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise CodecError("an array that is cut off")


def _plain(value, arrays, depth):
    """A value as JSON knows it: what JSON has no word for is a dict with one key, its type."""
    if depth > DEEPEST:
        raise CodecError(f"nested more than {DEEPEST} deep")
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in KINDS:
            raise CodecError(f"an array of dtype {array.dtype}")
        name = f"a{len(arrays)}"
        arrays[name] = array
        return {"array": name}
    if isinstance(value, bool | int | str):  # a subclass: its plain value
        return {bool: bool, int: int, str: str}[_base(value)](value)
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    children = list(value.items()) if isinstance(value, dict) else value
    for kind, name in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "set")):
        if isinstance(value, kind):
            return {name: [_plain(child, arrays, depth + 1) for child in children]}
    if isinstance(value, dict):
        pairs = [[_plain(x, arrays, depth + 1) for x in pair] for pair in children]
        return {"dict": pairs}
    raise CodecError(f"a value of type {type(value).__name__}")


def _base(value):
    return next(kind for kind in (bool, int, str) if isinstance(value, kind))


def _tree(value, arrays, depth):
    if depth > DEEPEST:
        raise CodecError(f"nested more than {DEEPEST} deep")
    if not isinstance(value, dict):
        if isinstance(value, list | float):
            raise CodecError("a value without its type")
        return value
    ((kind, inside),) = value.items()

    def children(x):
        return [_tree(child, arrays, depth + 1) for child in x]

    if kind == "array":
        return arrays[inside]
    if kind == "float":
        return float.fromhex(inside)
    if kind == "complex":
        return complex(*map(float.fromhex, inside))
    if kind == "bytes":
        return base64.b64decode(inside)
    if kind == "dict":
        return dict(_hashable([children(pair) for pair in inside], lambda pair: pair[0]))
    if kind == "set":
        return set(_hashable(children(inside), lambda child: child))
    return {"list": list, "tuple": tuple}[kind](children(inside))


def _hashable(entries, key):
    """The entries, unless so many of their keys share a hash that a dict of them takes hours."""
    if len(entries) > ALIKE:
        hashes = collections.Counter(hash(key(entry)) for entry in entries)
        if max(hashes.values()) > ALIKE:
            raise CodecError("keys that share a hash")
    return entries

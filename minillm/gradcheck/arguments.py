"""Inputs in a few characters, as `minillm gradcheck` takes them: x=4,7 or ids=int:8,5:0..9.

    x=4,7              floats of shape (4, 7), standard normal;  t=() a scalar
    x=4,7:0.1..3       floats between 0.1 and 3;  x=4,7:2..2 all of them 2
    ids=int:8,5:0..9   integers from 0 to 9, both included
    mask=bool:4,4      True or False, at least one True in each row
    y=[0,2,1]          these values
    x=@x.npy           the array in that file
    rng=rng            a numpy.random.Generator
    bias=None          nothing
    params.w=3,5       an entry of a dict params (params.0 and so on: of a list)
    softmax:x=4,7      for the function softmax alone

What is drawn depends on the seed and on the argument's own name and text, on nothing else.
"""

import ast
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minillm.errors import UserError

__all__ = ["Argument", "bind", "missing", "parse_argument", "parse_option"]

NAME = re.compile(r"(?:(?P<pair>\w+):)?(?P<path>[^\W\d]\w*(?:\.\w+)*)")
SPEC = re.compile(
    r"(?:(?P<kind>int|bool|float):)?\(?(?P<shape>[\d,\s]*)\)?(?::(?P<low>[^:]+?)\.\.(?P<high>[^:]+))?"
)
LARGEST = 10**8  # elements; more is a slip of the finger


@dataclass(frozen=True)
class Argument:
    """One --arg: for which pair (None: each that has such a parameter), its place, its values."""

    pair: str | None
    path: str
    spec: str
    make: Callable[[np.random.Generator, Any], Any]
    shape: tuple[int, ...] | None = None

    @property
    def name(self):
        return self.path.partition(".")[0]

    def __str__(self):
        return f"{self.path}={self.spec}"

    def draw(self, seed, dtype):
        """The value for a seed, its floats of that dtype."""
        key = zlib.crc32(str(self).encode())
        return self.make(np.random.default_rng(np.random.SeedSequence([seed, key])), dtype)


def parse_argument(text):
    """Read the text of one --arg.

    Raises
    ------
    UserError
        for a text that is none, or a file that holds no array.
    """
    name, equals, spec = text.partition("=")
    match = NAME.fullmatch(name.strip())
    if not equals or match is None:
        raise UserError(f"--arg {text}: expected NAME=SHAPE, as in x=4,7")
    make, shape = _maker(spec.strip(), f"--arg {text}")
    return Argument(match["pair"], match["path"], spec.strip(), make, shape)


def parse_option(text):
    """Read the text of one --option, a name and a Python literal; a bare word is a string.

    Raises
    ------
    UserError
        for a text that is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise UserError(f"--option {text}: expected NAME=VALUE, as in eps=1e-5")
    name, value = name.strip(), value.strip()
    meant = {"true": "True", "false": "False", "none": "None", "null": "None"}.get(value)
    if meant:
        raise UserError(f"--option {text}: write {name}={meant}, as in Python")
    if value in ("inf", "-inf", "nan"):
        return name, float(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        if re.fullmatch(r"[^\W\d][\w-]*", value):
            return name, value
        raise UserError(
            f"--option {text}: expected a number, True, False, None, a string, list or dict"
        ) from None


def missing(pair, given):
    """The parameters of a pair that must have a value and are not among the names given."""
    return [
        name
        for name, parameter in pair.parameters.items()
        if parameter.default is parameter.empty and name not in given
    ]


def bind(pair, arguments, options, seed, dtype):
    """The call that a pair gets: (args, kwargs).

    Arrays go where the signature has them. What stands between two of them, or may be None, is
    passed by position too, so that a gradient's place is its parameter's.
    """
    values = dict(options)
    for name in dict.fromkeys(argument.name for argument in arguments):
        entries = [a for a in arguments if a.name == name]
        if len(entries) == 1 and entries[0].path == name:
            values[name] = entries[0].draw(seed, dtype)
        else:
            values[name] = _nest({a.path: a.draw(seed, dtype) for a in entries})[name]
    given = {a.name for a in arguments}
    positional = [p for p in pair.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    last = 0
    for place, p in enumerate(positional, 1):
        by_keyword = isinstance(values.get(p.name), np.random.Generator)
        absent = p.default is None and p.name not in options
        if p.kind is p.POSITIONAL_ONLY or ((p.name in given or absent) and not by_keyword):
            last = place
    args = tuple(values.pop(p.name, p.default) for p in positional[:last])
    return args, values


def _nest(flat):
    """{"a.b": value} as {"a": {"b": value}}; a dict whose keys are 0, 1, ... is a list."""
    nest: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        inner = nest
        for key in parents:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise UserError(f"--arg {path}: {key} is an array already")
        if last in inner:
            raise UserError(f"--arg {path}: given twice, or it has entries already")
        inner[last] = value
    return _listed(nest)


def _listed(nest):
    if not isinstance(nest, dict):
        return nest
    children = {key: _listed(child) for key, child in nest.items()}
    count = [str(i) for i in range(len(children))]
    return [children[key] for key in count] if set(children) == set(count) else children


def _maker(spec, what):
    """(a function of a generator and a dtype that makes the value, its shape where known)."""
    if spec == "None":
        return lambda rng, dtype: None, None
    if spec == "rng":
        return lambda rng, dtype: rng, None
    if spec.startswith("@"):
        return _constant(_loaded(spec[1:], what), what)
    if spec.startswith("["):
        return _constant(_literal(spec, what), what)
    match = SPEC.fullmatch(spec)
    if match is None or not spec:
        raise UserError(
            f"{what}: expected a shape, as in 4,7 or int:8,5:0..9, got {spec or 'nothing'}"
        )
    shape = _shape(match["shape"], spec, what)
    kind = match["kind"] or "float"
    if kind == "bool":
        if match["low"]:
            raise UserError(f"{what}: bool takes no range")
        return lambda rng, dtype: _mask(rng, shape), shape
    if kind == "int" and not match["low"]:
        raise UserError(f"{what}: integers need a range, as in {spec}:0..9")
    if not match["low"]:
        return lambda rng, dtype: np.asarray(rng.standard_normal(shape), dtype), shape
    low, high = (_number(match[end], kind, what) for end in ("low", "high"))
    if low > high:
        raise UserError(f"{what}: the range {match['low']}..{match['high']} is empty")
    if kind == "int":
        return lambda rng, dtype: rng.integers(low, high, shape, np.int64, endpoint=True), shape
    return lambda rng, dtype: np.asarray(rng.uniform(low, high, shape), dtype), shape


def _shape(text, spec, what):
    parts = [part.strip() for part in text.strip().split(",")]
    if parts[-1] == "" and (len(parts) > 1 or "()" in spec.replace(" ", "")):
        parts.pop()  # (4,) and ()
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"{what}: expected a shape, as in 4,7 or () for a scalar, got {spec}")
    shape = tuple(int(part) for part in parts)
    if math.prod(shape) > LARGEST:
        raise UserError(f"{what}: {math.prod(shape)} elements are more than {LARGEST}")
    return shape


def _number(text, kind, what):
    try:
        number = int(text) if kind == "int" else float(text)
        if not math.isfinite(number) or abs(number) > 2**62:
            raise ValueError
    except ValueError:
        wanted = "whole numbers" if kind == "int" else "numbers"
        raise UserError(f"{what}: a range is two {wanted}, as in 0..9, got {text!r}") from None
    return number


def _mask(rng, shape):
    mask = np.asarray(rng.random(shape) < 0.5)
    if mask.ndim and mask.size:  # a row that sees nothing is a question of its own
        sure = rng.integers(0, shape[-1], (*shape[:-1], 1))
        np.put_along_axis(mask, sure, True, -1)
    return mask


def _literal(spec, what):
    try:
        return np.array(ast.literal_eval(spec))
    except (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError):
        raise UserError(f"{what}: expected values, as in [0,2,1] or [[0.5,1],[2,3]]") from None


def _loaded(path, what):
    if not Path(path).is_file():
        raise UserError(f"{what}: no file {path}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{what}: {path} is not a .npy file: {error}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{what}: {path} holds several arrays; expected a .npy file")
    return array


def _constant(array, what):
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what}: expected numbers or bools, got {array.dtype}")
    floats = array.dtype.kind == "f"
    return lambda rng, dtype: array.astype(dtype if floats else array.dtype), array.shape

"""Somebody's file: import it safely, find its pairs, and say where in it an error came from.

Which names make a pair, for any f:

- `f` or `f_forward`, returning (out, cache), with `f_backward(dout, cache)`;
- `f`, returning out, with `f_vjp(dout, *args)`;
- `f` with a function `f.backward(dout, cache)`, as minillm's `@op` makes it;
- plain `forward` with `backward`.
"""

import contextlib
import difflib
import functools
import importlib.util
import inspect
import re
import sys
import traceback
import types
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minillm.errors import UserError

__all__ = ["Pair", "StudentError", "choose", "find_pairs", "guarded", "nearest", "opened"]

OURS = __name__.partition(".")[0]


class StudentError(Exception):
    """An exception in somebody's file; the text is one line with the file's line number."""


@dataclass(frozen=True)
class Pair:
    """A forward and its backward; with `vjp` the backward is vjp(dout, *args, **kwargs)."""

    name: str
    forward: Callable
    backward: Callable
    vjp: bool = False

    @property
    def parameters(self):
        """The forward's parameters that have a name of their own, by that name.

        Raises
        ------
        UserError
            for a function without a readable signature, such as a compiled one.
        """
        try:
            found = inspect.signature(self.forward).parameters.values()
        except (TypeError, ValueError):
            raise UserError(f"{self.name}: its parameters cannot be read") from None
        return {p.name: p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}

    @property
    def takes_any_keyword(self):
        parameters = inspect.signature(self.forward).parameters.values()
        return any(p.kind is p.VAR_KEYWORD for p in parameters)


@contextlib.contextmanager
def opened(file):
    """Import somebody's file for the length of a `with` block, which gets its module.

    Its folder is first on sys.path, so that helpers beside it are found, and `from .helper import`
    works too. Its module has a name that no other has. What the file changed of the import system,
    NumPy's error state and the filters of warnings is put back, and the helpers are forgotten:
    the next file may bring others of the same name.

    Raises
    ------
    UserError
        for a file that is missing, a folder, not Python, or that raises while it is imported.
    """
    path = Path(file)
    if path.is_dir():
        raise UserError(f"{file}: a folder; expected a Python file")
    if not path.exists():
        raise UserError(f"{file}: no such file{_like(path)}")
    if path.suffix != ".py":
        raise UserError(f"{file}: expected a Python file, whose name ends in .py")
    path = path.resolve()
    known, search, bytecode = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(path.parent))
    sys.dont_write_bytecode = True  # else a file changed twice within a second is read from before
    try:
        yield _own(path) or _executed(file, path)
    finally:
        sys.path, sys.dont_write_bytecode = search, bytecode
        for name in set(sys.modules) - known:
            if name.startswith(_package(path)) or _is_helper(name, path.parent):
                del sys.modules[name]


def find_pairs(module, file):
    """The pairs that a module defines, in their order, as {name: Pair}.

    Raises
    ------
    UserError
        where there is none, or one half of a pair is missing.
    """
    functions = _functions(module)
    pairs = {
        name: pair
        for name, pair in _pairs(functions).items()
        if _is_of(module, pair.forward) or _is_of(module, pair.backward)
    }
    used = {id(f) for pair in pairs.values() for f in (pair.forward, pair.backward)}
    for name, function in functions.items():
        half = re.fullmatch(r"(?!_)(.*)_(forward|backward|vjp)", name)
        if half and id(function) not in used and _is_of(module, function):
            base, kind = half.groups()
            other = f"{base}_backward" if kind == "forward" else f"{base} or {base}_forward"
            rest = functions.keys() - {name}
            raise UserError(f"{file}: {name} has no {other} beside it; {nearest(base, rest)}")
    if not pairs:
        raise UserError(f"{file}: no pair f and f_backward found; {_contents(module, functions)}")
    return pairs


def choose(module, file, name):
    """The one pair that a person named, by its own name or that of a half; it may be imported.

    Raises
    ------
    UserError
        where there is no such pair.
    """
    functions = _functions(module)
    pairs = _pairs(functions)
    base = re.sub(r"_(forward|backward|vjp)$", "", name)
    for candidate in (name, base):
        if candidate in pairs:
            return pairs[candidate]
    if base in functions or f"{base}_forward" in functions:
        raise UserError(f"{file}: {base} has no {base}_backward beside it")
    if f"{base}_backward" in functions:
        raise UserError(f"{file}: {base}_backward has no {base} or {base}_forward beside it")
    if not pairs:
        raise UserError(f"{file}: no pair {name} found; {_contents(module, functions)}")
    raise UserError(f"{file}: no pair {name!r}: {nearest(name, pairs)}")


def guarded(function, file):
    """The same function, whose exceptions become a StudentError with the line they came from."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # sys.exit too
            raise StudentError(_blame(error, file, function)) from None

    return call


def nearest(name, known):
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"


def _pairs(functions):
    found: dict[str, Pair] = {}
    for name, function in functions.items():
        if name == "backward":
            forward, base, kind = functions.get("forward"), "forward", name
        elif name.endswith(("_backward", "_vjp")):
            base, _, kind = name.rpartition("_")
            plain = functions.get(base)
            forward = plain if kind == "vjp" else functions.get(f"{base}_forward") or plain
        else:
            continue
        if forward is not None:
            name = name if base in found else base  # f_backward and f_vjp: both are checked
            found[name] = Pair(name, forward, function, vjp=kind == "vjp")
    ops = {id(pair.forward) for pair in found.values()}
    for name, function in functions.items():
        backward = getattr(function, "backward", None)
        if callable(backward) and id(function) not in ops and inspect.isfunction(function):
            ops.add(id(function))
            found[name] = Pair(name, function, backward)
    order = [id(function) for function in functions.values()]
    return dict(sorted(found.items(), key=lambda item: order.index(id(item[1].forward))))


def _functions(module):
    """What a module's names hold that can be called; classes are left out."""
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and not isinstance(value, type) and not name.startswith("__")
    }


def _is_of(module, function):
    return getattr(function, "__module__", None) == module.__name__


def _contents(module, functions):
    """What a file holds instead of a pair."""
    own = [name for name, function in functions.items() if _is_of(module, function)]
    layers = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and hasattr(value, "forward") and hasattr(value, "backward")
    ]
    text = f"its functions: {', '.join(own) or 'none'}"
    if layers:
        text += f"; its classes {', '.join(layers)} can be checked from Python, with check_layer"
    return text


def _is_helper(name, folder):
    """Whether a module lies beside somebody's file, and is neither installed there nor ours."""
    where = Path(getattr(sys.modules[name], "__dict__", {}).get("__file__") or "")
    ours = name.partition(".")[0] == OURS
    return where.is_relative_to(folder) and not ours and "site-packages" not in where.parts


def _own(path):
    """The module of one of our own files, which is imported already; None for any other."""
    for name, module in list(sys.modules.items()):
        where = getattr(module, "__dict__", {}).get("__file__") or ""
        if name.startswith(f"{OURS}.") and where.endswith(path.name) and Path(where) == path:
            return module
    return None


def _package(path):
    return f"_student_{zlib.crc32(str(path).encode()):08x}"


def _executed(file, path):
    package = types.ModuleType(_package(path))  # for `from .helper import`
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    stem = re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(f"{package.__name__}.{stem}", path)
    assert spec is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    source = path.read_bytes()
    try:
        with warnings.catch_warnings(), np.errstate():
            exec(compile(source, str(path), "exec"), module.__dict__)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        raise UserError(_blame(error, file, None)) from None
    return module


def _blame(error, file, function):
    """An exception in one line: the last line of the person's own that it came through, and what.

    A helper beside the file counts as the person's own.
    """
    path = Path(file).resolve()
    lines = [
        (Path(frame.filename).name, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == path.parent
    ]
    if isinstance(error, SyntaxError) and error.lineno and error.filename:
        lines.append((Path(error.filename).name, error.lineno))
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    if not lines and code is not None and Path(code.co_filename).parent == path.parent:
        lines.append((Path(code.co_filename).name, code.co_firstlineno))
    where = str(file)
    if lines:
        name, number = lines[-1]
        where = f"{file if name == path.name else Path(file).with_name(name)}:{number}"
    if isinstance(error, SystemExit):
        return f"{where}: it calls sys.exit({'' if error.code is None else repr(error.code)})"
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{where}: {type(error).__name__}{': ' if text else ''}{text}"


def _like(path):
    """The end of a message about a missing file: the file beside it with the nearest name."""
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(close[0])}?" if close else ""

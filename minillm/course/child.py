"""What runs in the student's process: isolation first, then requests one after another.

Sent as text and run under `python -I -S`. Until the first import of a student's module this code
can be relied on; from then on everything in the process is the student's, this file included, and
nothing that comes from it is more than a claim. So it holds no answer, and the grader checks each
byte.

A message is its length in eight bytes, then a tree (codec.py). A request has a number, the name of
a driver, a case and what to watch; its reply has the same number.
"""

import importlib
import importlib.machinery
import linecache
import os
import sys
import types

__all__ = ["serve"]

TEXT = 300  # characters of an exception's text
DEEP = "nested too deeply for Python"


def serve(setup, load):
    """Set up the process as `setup` says, tell the grader, and answer until it hangs up.

    Parameters
    ----------
    setup : dict, from sandbox.py
    load : makes a module of this package from the text that was sent
    """
    requests, replies = _own_pipes()
    plan = setup["plan"]
    try:
        os.environ.clear()
        os.environ.update(setup["environment"])
        jail = load("minillm.course.jail")
        jail.enter(plan)
        sys.dont_write_bytecode = True
        sys.path[:0] = [plan["folder"], plan["site"]]
        codec = load("minillm.course.codec")
        watching = load("minillm.course.watching")
        source = load("minillm.course.source") if setup["replace"] else None
        lines: dict = {}  # {file: {line after functions were replaced: the student's line}}
        sys.path_hooks.insert(0, _hook(plan["folder"], setup["replace"], source, lines))
        sys.path_importer_cache.clear()
        if setup["spare"]:
            jail.leave(setup["spare"])
    except BaseException as error:
        _send(replies, f"{type(error).__name__}: {error}".encode())
        os._exit(4)
    for name in [name for name in sys.modules if name.split(".")[0] == "minillm"]:
        del sys.modules[name]
    drivers = types.ModuleType("drivers")
    names = {name[:-3] for name in plan["contents"] if name.endswith(".py")}
    child = _Child(plan["folder"], names, lines, drivers, codec, watching)
    exec(compile(setup["drivers"], "<drivers>", "exec"), drivers.__dict__)
    _send(replies, b"ready")
    while (data := _receive(requests)) is not None:
        reply = child.answer(codec.decode(data))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _send(replies, reply)
    os._exit(0)


class _Child:
    """Answers requests with the drivers and the student's modules."""

    def __init__(self, folder, names, lines, drivers, codec, watching):
        self.names, self.lines, self.drivers = names, lines, drivers
        self.codec, self.watching, self.kept = codec, watching, {"folder": folder}
        self.files = {os.path.join(folder, f"{name}.py") for name in names}

    def modules(self, name):
        """A module of the student's folder."""
        if name not in self.names:
            raise ModuleNotFoundError(f"no file {name}.py in the assignment's folder", name=name)
        return importlib.import_module(name)

    def answer(self, request):
        """The bytes of the reply to a request."""
        drive, watch, seen = getattr(self.drivers, request["drive"]), request["watch"], {}

        def call():
            return drive(self.modules, self.kept, request["case"])

        try:
            if watch:
                result, seen = self.watching.watched(
                    watch["functions"], watch["names"], self.files, call
                )
            else:
                result = call()
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            reply = {"fault": self.fault(error)}
        else:
            reply = {"result": result, "seen": seen}
        try:
            return self.codec.encode(reply | {"number": request["number"]})
        except self.codec.CodecError as error:
            text = f"its result cannot be sent: {error}"
            fault = {"kind": "refused", "text": text, "file": None, "line": None}
        except MemoryError as error:
            fault = self.fault(error)
        return self.codec.encode({"fault": fault, "number": request["number"]})

    def fault(self, error):
        """What an exception says, and the last line of the student's that it passed."""
        file = line = None
        trace, innermost = error.__traceback__, None
        while trace is not None:
            innermost = trace.tb_frame.f_code.co_filename
            if innermost in self.files:
                file, line = os.path.basename(innermost), trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, SyntaxError) and error.filename in self.files:
            file, line = os.path.basename(error.filename), error.lineno
        if file in self.lines:
            line = self.lines[file].get(line)
        kind = "raised"
        if isinstance(error, MemoryError):
            kind = "memory"
        elif isinstance(error, NotImplementedError) and innermost in self.files:
            kind = "not implemented"
        text, words = type(error).__name__, " ".join(str(error).split())[:TEXT]
        if words:
            text += f": {words}"
        if text.startswith("Refused: ") and type(error).__module__ == self.drivers.__name__:
            kind, text = "refused", words
        return {"kind": kind, "text": text, "file": file, "line": line}


def _hook(folder, replace, source, lines):
    """A path hook for the student's folder: functions are replaced before a file is compiled."""

    class Loader(importlib.machinery.SourceFileLoader):
        def get_data(self, path):
            data, name = super().get_data(path), os.path.basename(path)
            parts = replace.get(name)
            if not parts or source is None:
                return data
            try:
                old = data.decode("utf-8-sig")
                new = source.replace_functions(old, parts)
                lines[name] = _lines(source.functions, old, new, parts)
            except SyntaxError as error:
                error.filename = path
                raise
            except (MemoryError, RecursionError):
                raise SyntaxError(DEEP, (path, 1, 0, "")) from None
            linecache.cache[path] = len(new), None, new.splitlines(keepends=True), path
            return new.encode()

        def source_to_code(self, data, path, **options):  # type: ignore[override]
            try:
                return super().source_to_code(data, path, **options)
            except (MemoryError, RecursionError):
                raise SyntaxError(DEEP, (path, 1, 0, "")) from None

    def hook(path):
        if path != folder:
            raise ImportError(path)
        return importlib.machinery.FileFinder(path, (Loader, [".py"]))

    return hook


def _lines(functions, old, new, parts):
    """{line of the new text: line of the old}, of all that was not replaced."""

    def kept(text):
        cut = set()
        for name, node in functions(text).items():
            if name in parts:
                first = min([node.lineno, *(x.lineno for x in node.decorator_list)])
                cut |= set(range(first, node.end_lineno + 1))
        return [pair for pair in enumerate(text.splitlines(), 1) if pair[0] not in cut]

    before = iter(kept(old))
    table = {}
    number, line = next(before, (0, None))
    for now, text in kept(new):
        if text == line:  # else a blank line around a function that was appended
            table[now] = number
            number, line = next(before, (0, None))
    return table


def _own_pipes():
    """The two pipes to the grader, off the standard streams: prints must not reach them."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    return requests, replies


def _send(pipe, data):
    for part in (len(data).to_bytes(8, "little"), data):
        view = memoryview(part)
        while view:
            view = view[os.write(pipe, view) :]


def _receive(pipe):
    """The next message, None at the end."""
    size = _read(pipe, 8)
    return _read(pipe, int.from_bytes(size, "little")) if size else None


def _read(pipe, size):
    data = bytearray()
    while len(data) < size:
        part = os.read(pipe, min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)

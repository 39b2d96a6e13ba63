"""What the functions of a checked file get: the texts after --arg and --option, pair by pair."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minillm.cli.options import suggest
from minillm.errors import UserError
from minillm.gradcheck import Report
from minillm.gradcheck.arguments import bind, missing, parse_argument, parse_option
from minillm.gradcheck.docstring import documented, sized
from minillm.gradcheck.student import Pair
from minillm.tree import leaves

__all__ = ["Check", "prepare", "read_file_name"]

INTEGERS = ("ids", "idx", "index", "indices", "labels", "positions", "target", "targets", "y")
NUMBERS = ("alpha", "axis", "eps", "momentum", "n_head", "p", "pad", "scale", "stride")
SHAPES = ("4,7", "7,5", "5")


@dataclass
class Check:
    """One pair, what it gets, the words of its own command line, and what came of it."""

    pair: Pair
    words: list[str]
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    allow_zero: Any = ()
    notes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    report: Report | None = None
    error: str | None = None

    @property
    def name(self):
        return self.pair.name

    @property
    def names(self):
        return list(self.pair.parameters)[: len(self.args)]

    @property
    def verdict(self):
        return "fail" if self.report is None else self.report.verdict

    @property
    def replay(self):
        return shlex.join([*self.words, *self.flags])

    def to_dict(self):
        report = None if self.report is None else self.report.to_dict()
        what = {"name": self.name, "verdict": self.verdict, "error": self.error}
        return what | {"replay": self.replay, "report": report}

    def __str__(self):
        if self.report is not None:
            return str(self.report)
        given = dict(zip(self.names, self.args, strict=True)) | self.kwargs
        shapes = (f"{name} {leaf.shape}" for name, leaf in leaves(given) if hasattr(leaf, "shape"))
        lines = [f"{self.name}: FAIL", f"  {self.error}", f"  called with {', '.join(shapes)}"]
        return "\n".join(
            [*lines, *(f"  note: {n}" for n in self.notes), f"  replay: {self.replay}"]
        )


def read_file_name(text):
    """FILE[:NAME] as (file, name or None); a file whose own name has a colon is taken whole."""
    match = re.fullmatch(r"(.+?)::?([^:/\\]*)", text)
    if match is None or Path(text).exists():
        return text, None
    if not match[2]:
        raise UserError(f"{text}: expected the name of a function after the colon")
    return match.groups()


def prepare(file, pairs, *, arg, option, dtype, seed, allow_zero):
    """A Check for every pair, with its inputs drawn.

    Raises
    ------
    UserError
        for a text that cannot be read, a name that no pair has, or an argument without a shape.
    """
    arguments = _once([parse_argument(text) for text in arg])
    options = {}
    for text in option:
        name, value = parse_option(text)
        if name in options or name in {argument.name for argument in arguments}:
            raise UserError(f"{name} is given twice, the second time by --option {text}")
        options[name] = value
    _check_names(pairs, arguments, options)
    filled = [_filled(pair, arguments, options) for pair in pairs]
    _check_complete(file, pairs, filled, options, [("--arg", arg), ("--option", option)])
    checks = []
    for pair, (mine, documented_ones) in zip(pairs, filled, strict=True):
        words = ["minillm", "gradcheck", f"{file}:{pair.name}"]
        words += [word for argument in mine for word in ("--arg", str(argument))]
        used = {name: value for name, value in options.items() if _takes(pair, name)}
        given = (text for text in option if text.partition("=")[0].strip() in used)
        words += [word for text in given for word in ("--option", text)]
        check = Check(pair, words + ["--dtype", dtype] * (dtype != "float64"))
        check.args, check.kwargs = bind(pair, mine, used, seed, np.dtype(dtype))
        check.notes = _notes(check, documented_ones)
        checks.append(check)
    _allow(checks, allow_zero)
    return checks


def _takes(pair, name):
    return name in pair.parameters or pair.takes_any_keyword


def _once(arguments):
    seen = set()
    for argument in arguments:
        key = argument.pair, argument.path
        if key in seen:
            raise UserError(f"--arg {argument.path} is given twice")
        seen.add(key)
    return arguments


def _check_names(pairs, arguments, options):
    """Refuse a name that is no pair's, with the nearest that is."""
    by_name = {pair.name: pair for pair in pairs}
    for argument in arguments:
        if argument.pair is not None and argument.pair not in by_name:
            raise UserError(f"--arg {argument.pair}:{argument}: {suggest(argument.pair, by_name)}")
        of = pairs if argument.pair is None else [by_name[argument.pair]]
        _check_name("--arg", argument.name, of)
    for name in options:
        _check_name("--option", name, pairs)


def _check_name(flag, name, pairs):
    if not any(_takes(pair, name) for pair in pairs):
        known = {parameter for pair in pairs for parameter in pair.parameters}
        whose = pairs[0].name if len(pairs) == 1 else "any pair"
        raise UserError(f"{flag} {name}: no parameter of {whose}; {suggest(name, known)}")


def _filled(pair, arguments, options):
    """(the arguments that a pair gets, the paths of those that came from its docstring)."""
    own = [a for a in arguments if a.pair == pair.name]
    named = {a.name for a in own}
    general = [a for a in arguments if a.pair is None and a.name not in named]
    mine = own + [a for a in general if _takes(pair, a.name)]
    wanted = set(missing(pair, {a.name for a in mine} | options.keys()))
    if not mine:  # then the optional arrays too
        wanted |= {name for name, p in pair.parameters.items() if p.default is None} - {*options}
    texts = sized(documented(pair.forward), {a.path: a.shape for a in mine if a.shape is not None})
    extra = {path: text for path, text in texts.items() if path.partition(".")[0] in wanted}
    return [*mine, *(parse_argument(f"{path}={text}") for path, text in extra.items())], [*extra]


def _check_complete(file, pairs, filled, options, typed):
    """Refuse arguments without a value, with a line to copy that has one for each."""
    lacking = {
        pair.name: missing(pair, {a.name for a in mine} | options.keys())
        for pair, (mine, _) in zip(pairs, filled, strict=True)
    }
    lacking = {name: names for name, names in lacking.items() if names}
    if not lacking:
        return
    shapes = iter(SHAPES)
    words = ["minillm", "gradcheck", file if len(pairs) > 1 else f"{file}:{pairs[0].name}"]
    words += [word for flag, texts in typed for text in texts for word in (flag, text)]
    for name in dict.fromkeys(name for names in lacking.values() for name in names):
        words += _example(name, shapes)
    what = "; ".join(f"{name} needs {', '.join(names)}" for name, names in lacking.items())
    raise UserError(f"{file}: {what}. For example: {shlex.join(words)}")


def _example(name, shapes):
    if name in NUMBERS:
        return ["--option", f"{name}=1"]
    if name.endswith("_param"):  # CS231n's dicts of settings
        return ["--option", f"{name}={{}}"]
    special = {"mask": "bool:4,7", "rng": "rng"} | dict.fromkeys(INTEGERS, "int:4:0..2")
    return ["--arg", f"{name}={special.get(name) or next(shapes, '5')}"]


def _notes(check, documented_ones):
    """What a report does not show: where shapes came from, and what is held constant."""
    given = dict(zip(check.names, check.args, strict=True))
    if not any(_kind(leaf) == "f" for _, leaf in leaves(given)):
        raise UserError(
            f"{check.name}: nothing to differentiate: no array of floats among its positional "
            f"arguments {', '.join(given) or '(none)'}; give one, as in --arg x=4,7"
        )
    notes = []
    if documented_ones:
        names = ", ".join(documented_ones)
        notes.append(f"the docstring gave the shapes of {names}; --arg gives others")
    constant = [f"{name} (integers)" for name, leaf in leaves(given) if _kind(leaf) == "i"]
    constant += [f"{n} (keyword-only)" for n, leaf in leaves(check.kwargs) if _kind(leaf) == "f"]
    return notes + ([f"held constant: {', '.join(constant)}"] if constant else [])


def _kind(value):
    return value.dtype.kind if isinstance(value, np.ndarray | np.generic) else None


def _allow(checks, names):
    """Tell each check which of its gradients may vanish."""
    if "all" in names:
        for check in checks:
            check.allow_zero = True
            check.words += ["--allow-zero", "all"]
        return
    known = [{n for n, _ in leaves(dict(zip(c.names, c.args, strict=True)))} for c in checks]
    known = [paths | set(check.names) for paths, check in zip(known, checks, strict=True)]
    for name in names:
        if not any(name in paths for paths in known):
            raise UserError(f"--allow-zero {name}: {suggest(name, {n for p in known for n in p})}")
        for check, paths in zip(checks, known, strict=True):
            if name in paths:
                check.allow_zero = (*check.allow_zero, name)
                check.words += ["--allow-zero", name]

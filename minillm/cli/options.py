"""What the commands share: settings from a TOML file, suggestions, mistakes in one line."""

import contextlib
import difflib
import tomllib
from pathlib import Path

import click

from minillm.errors import UserError

__all__ = [
    "Command",
    "Commands",
    "OneOf",
    "Shares",
    "Wholes",
    "backend_option",
    "check_out",
    "flag_of",
    "one_line",
    "suggest",
    "using_backend",
]


def suggest(name, known):
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"


def one_line(error):
    """What click says about a mistake, as one line that ends in where to read more."""
    if isinstance(error, click.NoSuchOption):
        message = f"no such option: {error.option_name}"
        if error.ctx is not None:
            options = (o for p in error.ctx.command.get_params(error.ctx) for o in p.opts)
            message += f"; {suggest(error.option_name, [o for o in options if o[:2] == '--'])}"
    else:
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message} (see {context.command_path} --help)"


def flag_of(name):
    """The flag of a setting: max_order is --max-order."""
    return "--" + name.replace("_", "-")


class OneOf(click.ParamType):
    """A name out of a few; another is refused with a suggestion."""

    def __init__(self, what, names):
        self.name, self.names = what, tuple(names)

    def convert(self, value, param, ctx):
        if value not in self.names:
            raise click.UsageError(
                f"unknown {self.name} {value!r}: {suggest(str(value), self.names)}", ctx
            )
        return value


class Numbers(click.ParamType):
    """Several numbers with commas between them; in TOML a list of them will do."""

    number: type
    expected: str

    def convert(self, value, param, ctx):
        parts = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(self.number(part) for part in parts)
        except (TypeError, ValueError):
            raise click.UsageError(
                f"{param.name} must be {self.expected}, got {value!r}", ctx
            ) from None


class Shares(Numbers):
    """Of a text, for training, validation and test."""

    name, number, expected = "shares", float, "three numbers like 0.8,0.1,0.1"


class Wholes(Numbers):
    name, number, expected = "wholes", int, "whole numbers like 0,0,1"


class Commands(click.Group):
    """A group that answers an unknown command with the one that was probably meant."""

    def list_commands(self, ctx):
        return list(self.commands)

    def resolve_command(self, ctx, args):
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise click.UsageError(
                f"unknown command {args[0]!r}: {suggest(args[0], self.commands)}", ctx
            )
        return super().resolve_command(ctx, args)


class Command(click.Command):
    """A command with --config FILE, its options in groups, and its example at the end of its help.

    groups : {heading: names of the options under it}; the others come first, under "Options"
    """

    def __init__(self, *args, groups=None, example, **kwargs):
        super().__init__(*args, **kwargs)
        self.epilog = f"\b\nExample:\n{example}"
        self.groups = groups or {}
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(path_type=Path),
                metavar="FILE",
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="Take settings from this TOML file: any option by its name; flags win.",
            )
        )

    def format_options(self, ctx, formatter):
        shown = (p for p in self.get_params(ctx) if isinstance(p, click.Option))
        rows = {p.name: p.get_help_record(ctx) for p in shown}
        grouped = {name for names in self.groups.values() for name in names}
        ungrouped = [name for name in rows if name not in grouped]
        for heading, names in {"Options": ungrouped, **self.groups}.items():
            with formatter.section(heading):
                formatter.write_dl([rows[name] for name in names])


def backend_option(command):
    """Add --backend."""
    return click.option(
        "--backend",
        metavar="NAME",
        help="Who computes the ops: fast (the default) or numpy, the readable reference, on "
        "the CPU; cupy or triton on a GPU.",
    )(command)


def check_out(out):
    """Refuse an empty --out: an unset variable of the shell would mean the current folder."""
    if not out:
        raise UserError("--out must name a folder, got an empty text")


@contextlib.contextmanager
def using_backend(name):
    """Run a block on the backend of that name; None leaves the default."""
    with contextlib.ExitStack() as stack:
        if name is not None:
            import minillm

            try:
                stack.enter_context(minillm.backend(name))
            except ValueError as error:
                raise UserError(str(error)) from None
        yield


def _read_config(ctx, param, path):
    """Make a TOML file's values the defaults of the command's options."""
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    known = {
        option.lstrip("-").replace("-", "_"): p
        for p in ctx.command.params
        if p is not param
        for option in [p.name, *p.opts]
    }
    defaults = {}
    for key, value in values.items():
        p = known.get(key.replace("-", "_"))
        if p is None:
            raise UserError(f"{path}: unknown setting {key!r}: {suggest(key, known)}")
        if p.name in defaults:
            raise UserError(f"{path}: {key!r} is given twice")
        defaults[p.name] = _checked(path, key, value, p)
    ctx.default_map = defaults


def _checked(path, key, value, param):
    """The value as click takes it; a number in quotes or half a step is refused, not converted."""
    if isinstance(param.type, Numbers):
        return value
    values = value if param.multiple and isinstance(value, list) else [value]
    kind: tuple[type, ...] = (str,)
    wanted = "text in quotes"
    if getattr(param, "is_flag", False):
        kind, wanted = (bool,), "true or false"
    elif param.type is click.INT:
        kind, wanted = (int,), "a whole number"
    elif param.type is click.FLOAT:
        kind, wanted = (int, float), "a number"
    for one in values:
        if not isinstance(one, kind) or (isinstance(one, bool) and kind != (bool,)):
            raise UserError(f"{path}: {key} must be {wanted}, got {one!r}")
    return values if param.multiple else value

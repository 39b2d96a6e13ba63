"""The command `minillm`: what a person types, turned into calls of the rooms below.

Exit codes: 0 done, 1 a check failed, 2 the user's mistake (one line on stderr), 3 inconclusive or
interrupted, 4 a fault of ours.
"""

import os
import sys
import traceback

import click

from minillm import __version__
from minillm.cli.bench import bench
from minillm.cli.course import course
from minillm.cli.demo import demo
from minillm.cli.eval import eval_
from minillm.cli.export import export
from minillm.cli.generate import generate
from minillm.cli.gradcheck import gradcheck
from minillm.cli.options import Commands, one_line
from minillm.cli.score import score
from minillm.cli.tokenize import tokenize
from minillm.cli.train import train
from minillm.errors import UserError

__all__ = ["cli", "main", "prepared", "run"]

DONE, MISTAKE, INTERRUPTED, FAULT = 0, 2, 3, 4


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nA first look:  minillm demo\n"
    "Your own text: minillm train gpt --data FILE --out runs/mine --steps 2000\n"
    'and then       minillm generate runs/mine --prompt "Once"',
)
@click.version_option(__version__, prog_name="minillm")
@click.pass_context
def cli(context):
    """Language models from scratch in NumPy: train, compare and use them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (demo, train, eval_, generate, tokenize, score, export, bench, gradcheck, course):
    cli.add_command(command)


def run(args=None, command=cli, name="minillm"):
    """Run one command line and return its exit code; a mistake is printed as one line.

    command, name : the click command that it is for; minillm's own by default
    """
    args = sys.argv[1:] if args is None else list(args)
    code = DONE
    try:
        try:
            with command.make_context(name, args) as context:
                code = command.invoke(context) or DONE
        except click.exceptions.Exit as stop:  # --help and --version
            code = stop.exit_code
        if sys.stdout is not None:  # closed by the caller: minillm ... >&-
            sys.stdout.flush()
        return code
    except click.ClickException as error:
        return _report(one_line(error), MISTAKE, name)
    except UserError as error:
        return _report(error, MISTAKE, name)
    except BrokenPipeError:  # the reader has seen enough: minillm ... | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the flush at exit)
        return code
    except OSError as error:  # a disk, a right, a name: not a mistake in these files
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}", MISTAKE, name)
    except MemoryError:
        advice = "a smaller --batch, --block, --order or model needs less"
        return _report(f"not enough memory; {advice}", MISTAKE, name)
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted", INTERRUPTED, name)
    except Exception:
        traceback.print_exc()
        return _report("this is a fault of ours, not yours; the lines above say where", FAULT, name)


def main():
    """The entry point of the installed command."""
    sys.exit(prepared(run))


def prepared(run):
    """Call `run` with streams that show what they can."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows "?"
    return run()


def _report(message, code, name):
    line = " ".join(str(message).split())
    print(f"{name}: {line}", file=sys.stderr)
    return code

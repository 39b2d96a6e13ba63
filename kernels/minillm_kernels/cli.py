"""`python -m minillm_kernels`: measure the kernels, compile them without a GPU, climb a ladder.

Exit codes are minillm's: 0 done, 1 a check failed, 2 the user's mistake, 3 interrupted, 4 a fault
of ours.
"""

import click

from minillm.cli.options import Command, Commands
from minillm.errors import UserError

__all__ = ["cli"]

FAILED = 1


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def cli(context):
    """The GPU kernels of minillm."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(
    cls=Command,
    short_help="Time the kernels beside the vendor's on this GPU.",
    example="  python -m minillm_kernels bench --json results.json\n"
    "  python -m minillm_kernels bench --match attention\n"
    "  TRITON_INTERPRET=1 MINILLM_EMULATE=1 python -m minillm_kernels bench --rehearse",
)
@click.option("--json", "path", metavar="FILE", help="Write the results to this file too.")
@click.option("--match", default="", metavar="TEXT", help="Only rows whose name contains this.")
@click.option("--rehearse", is_flag=True, help="On the CPU, small and untimed: does each row run?")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    default=570.0,
    metavar="SECONDS",
    help="Begin no row after so long. [default: 570]",
)
@click.option("--here", is_flag=True, help="In this very process: a crash costs all later rows.")
@click.option("--rows", metavar="KEY,…", help="Only the rows with these keys.")
def bench(path, match, rehearse, budget, here, rows):
    """Time the kernels beside the vendor's on this GPU, in under ten minutes."""
    from minillm_kernels.require import emulated, interpreted, library

    for name in ("torch", "triton"):
        library(name, "triton")
    if rehearse and not (interpreted() and emulated()):
        raise UserError("a rehearsal needs TRITON_INTERPRET=1 and MINILLM_EMULATE=1 set")
    if not rehearse and (interpreted() or emulated()):
        raise UserError("unset TRITON_INTERPRET and MINILLM_EMULATE: with them no GPU is used")
    from minillm_kernels.bench import run, supervise

    def report(line):
        print(line, flush=True)

    if rehearse or here:
        keys = None if rows is None else rows.split(",")
        try:
            failed = run.run(
                path, match=match, keys=keys, rehearse=rehearse, budget=budget, report=report
            )
        except run.GpuLost as error:
            report(f"  {error}")
            return supervise.LOST
    else:
        failed = supervise.supervise(path, match=match, budget=budget, report=report)
    if failed:
        report(f"failed, or another result than the peer's: {', '.join(failed)}")
        return FAILED


@cli.command(
    cls=Command,
    example="  python -m minillm_kernels table results.json --out docs/kernels-results.md",
)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--out", required=True, metavar="FILE", help="The page to write.")
def table(files, out):
    """Write the page of results, and each rung's share into its header.

    Without FILEs, from the recorded results.
    """
    from minillm_kernels.bench import table as tables

    files = files or sorted(tables.RESULTS.glob("*.json"))
    for path in tables.write(tables.read_results(files), out):
        print(path)


@cli.command(
    "compile",
    cls=Command,
    short_help="Compile the Triton kernels, without a GPU.",
    example="  python -m minillm_kernels compile --match attention --arch 90",
)
@click.option("--match", default="", metavar="TEXT", help="Only kernels whose name contains this.")
@click.option("--arch", type=click.Choice(["75", "80", "90"]), help="Only this architecture.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
def compile_(match, arch, as_json):
    """Compile the Triton kernels, without a GPU, and read registers, spills and instructions.

    Exit code 1 where the code is not what its author claims.
    """
    from minillm_kernels.require import interpreted, library

    library("triton", "triton")
    if interpreted():
        raise UserError("unset TRITON_INTERPRET: what is made for the interpreter is not compiled")
    from minillm_kernels.triton import _compile

    if match and not _compile.all_configurations(match):
        names = dict.fromkeys(one.module for one in _compile.all_configurations())
        raise UserError(f"no kernel's name contains {match!r}; they begin with: {', '.join(names)}")
    arguments = ["--match", match, *(["--arch", arch] if arch else []), *["--json"] * as_json]
    return _compile.main(arguments)


@cli.command(
    cls=Command,
    short_help="What each rung of a ladder saves; no GPU needed.",
    example="  python -m minillm_kernels ladder matmul\n"
    "  python -m minillm_kernels ladder matmul 03",
)
@click.argument("name", required=False)
@click.argument("rung", required=False)
@click.option(
    "--size",
    type=click.IntRange(1, 1024),
    default=128,
    show_default=True,
    metavar="N",
    help="What it works on is N x N; for attention, N queries and keys of 64 channels. "
    "512 takes minutes.",
)
def ladder(name, rung, size):
    """What each rung of a ladder saves, counted by the emulator; no GPU needed.

    Without NAME the ladders; with a RUNG (its number will do) its file, line by line.
    """
    from minillm_kernels import climb
    from minillm_kernels.cuda.ladder import LADDERS

    if name is None:
        print(climb.overview())
    elif rung is None:
        print(climb.climb(name, size=size))
    else:
        rung = rung.lstrip("0") if rung.isdecimal() else rung
        print(climb.look(LADDERS.find(name, rung), size=size))

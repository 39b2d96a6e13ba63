"""`minillm bench`: our speed beside named peers'."""

import click

from minillm.cli.options import Command, Commands

__all__ = ["bench"]


@click.group(cls=Commands, invoke_without_command=True)
@click.pass_context
def bench(context):
    """Measure our speed beside that of the programs that are used today."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@bench.command(
    cls=Command,
    example='  minillm bench cpu --json bench.json\n  minillm bench cpu --match "LSTM"',
)
@click.option("--json", "json_path", metavar="FILE", help="Write the rows to this file too.")
@click.option("--match", default="", metavar="TEXT", help="Only rows whose name contains this.")
@click.option("--rounds", type=int, metavar="N", help="Timings of each side. [default: 6]")
def cpu(json_path, match, rounds):
    """On the CPU: training steps and generation, one thread and all. Takes a while.

    Peers that are not installed are left out and named.
    """
    from minillm.bench import cpu as measured

    def report(line):
        print(line, flush=True)

    given = {} if rounds is None else {"rounds": rounds}
    measured.run(json_path, match=match, report=report, **given)


@bench.command(
    cls=Command,
    example="  minillm bench classical --json bench.json\n"
    "  minillm bench classical --match BPE --rounds 10\n"
    "  minillm bench classical --match lmplz --lmplz kenlm/build/bin/lmplz",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the rows to this file too.")
@click.option("--match", default="", metavar="TEXT", help="Only rows whose name contains this.")
@click.option("--rounds", type=int, metavar="N", help="Timings of each side. [default: 5]")
@click.option(
    "--lmplz",
    metavar="PROGRAM",
    help="KenLM's lmplz. [default: in the folder KENLM_BIN of the environment, or on the PATH]",
)
def classical(json_path, match, rounds, lmplz):
    """N-gram models, tokenizers and metrics beside KenLM, NLTK, tiktoken, ... Takes long.

    Peers that are not installed are left out and named.
    """
    from minillm.bench import classical as measured

    def report(line):
        print(line, flush=True)

    given = {} if rounds is None else {"rounds": rounds}
    measured.run(json_path, match=match, lmplz=lmplz, report=report, **given)

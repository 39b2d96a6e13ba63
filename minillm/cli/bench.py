"""`minillm bench`: our speed beside named peers'."""

import click

from minillm.cli.options import Command, Commands, backend_option, using_backend

__all__ = ["bench"]

AT_LEAST_ONE = click.IntRange(min=1)


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
    example="  minillm bench step --backend triton --n-layer 12 --n-head 12 --n-embd 768 "
    "--block 1024 --vocab 50304\n  minillm bench step --backend numpy",
)
@click.option("--vocab", type=AT_LEAST_ONE, default=65, show_default=True, metavar="N", help="V.")
@click.option("--block", type=AT_LEAST_ONE, default=64, show_default=True, metavar="N", help="T.")
@click.option("--batch", type=AT_LEAST_ONE, default=12, show_default=True, metavar="N", help="B.")
@click.option("--n-layer", type=AT_LEAST_ONE, default=4, show_default=True, metavar="N", help="L.")
@click.option("--n-head", type=AT_LEAST_ONE, default=4, show_default=True, metavar="N", help="H.")
@click.option("--n-embd", type=AT_LEAST_ONE, default=128, show_default=True, metavar="N", help="C.")
@click.option(
    "--rounds", type=AT_LEAST_ONE, default=5, show_default=True, metavar="N", help="Timings."
)
@backend_option
def step(backend, rounds, **sizes):
    """A GPT's training step, forward, backward and AdamW, on the backend of your choice."""
    with using_backend(backend):
        from minillm.bench import step as measured

        print(measured.run(rounds=rounds, **sizes))


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

"""`minillm demo`: the main job."""

import click

from minillm.cli.lasting import lasting_output
from minillm.cli.options import Command, backend_option, check_out, using_backend

__all__ = ["demo"]


@click.command(cls=Command, example="  minillm demo\n  minillm demo --short --out /tmp/demo")
@click.option("--short", is_flag=True, help="A few steps each, under a minute: does it all work?")
@click.option(
    "--out",
    default="runs/demo",
    metavar="DIR",
    help="Where to. An earlier demo's folder is replaced. [default: runs/demo]",
)
@click.option(
    "--seed", type=int, default=0, metavar="N", help="Same seed, same table. [default: 0]"
)
@backend_option
def demo(short, out, seed, backend):
    """Train six models on Python's help pages and compare them in one table. Under 5 minutes.

    They are: guessing, counting characters, counting n-grams (Kneser-Ney), an RNN, an LSTM and a
    GPT.
    """
    check_out(out)
    with using_backend(backend), lasting_output():
        from minillm.demo import run_demo

        run_demo(out, short=short, seed=seed)

"""`minillm generate`: text from a trained model."""

import click

from minillm.cli.options import Command, backend_option, using_backend
from minillm.errors import UserError

__all__ = ["generate"]


@click.command(
    cls=Command,
    example='  minillm generate runs/book --prompt "Once upon" --temperature 0.8 --seed 1\n'
    '  minillm generate runs/book --prompt "Once upon" --beams 4',
)
@click.argument("run")
@click.option("--prompt", default="", metavar="TEXT", help="What to continue. [default: nothing]")
@click.option(
    "--max-new-tokens", "-n", type=int, default=200, metavar="N", help="Tokens. [default: 200]"
)
@click.option("--temperature", type=float, metavar="X", help="Below 1: safer. [default: 1]")
@click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest tokens.")
@click.option("--top-p", type=float, metavar="X", help="... from the fewest with probability X.")
@click.option(
    "--min-p", type=float, metavar="X", help="... from those X times as likely as the likeliest."
)
@click.option("--repetition-penalty", type=float, metavar="X", help="Above 1: less of the same.")
@click.option("--greedy", is_flag=True, help="Take the likeliest token instead of drawing.")
@click.option("--beams", type=int, metavar="N", help="Search the likeliest text, N wide.")
@click.option(
    "--length-penalty", type=float, metavar="X", help="Of --beams; higher: longer. [default: 1]"
)
@click.option("--seed", type=int, default=0, metavar="N", help="Same seed, same text. [default: 0]")
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Show each token as it comes. [default: in a terminal]",
)
@click.option("--stop/--no-stop", default=True, help="Stop at the document's end. [default: stop]")
@backend_option
def generate(run, prompt, backend, stream, beams, **given):
    """Continue a prompt with RUN's model.

    RUN is a run's folder (its best weights, else its last), the folder of one checkpoint, or an
    ARPA file; m.arpa@tok.json names the tokenizer whose tokens its words are.
    """
    with using_backend(backend):
        from minillm.cli.writing import search, write

        try:
            if beams is not None:
                search(run, prompt, beams, given)
            else:
                write(run, prompt, stream, given)
        except MemoryError:
            raise UserError(
                f"not enough memory for {given['max_new_tokens']:,} new tokens: "
                "a smaller --max-new-tokens (or --beams) needs less"
            ) from None

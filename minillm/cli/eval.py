"""`minillm eval`: how well a trained model predicts a text."""

import click

from minillm.cli.options import Command, OneOf, Shares, backend_option, using_backend

__all__ = ["eval_"]

PARTS = ("train", "validation", "test", "all")


@click.command(
    "eval",
    cls=Command,
    example="  minillm eval runs/book\n  minillm eval runs/book --data another.txt",
)
@click.argument("run")
@click.option(
    "--data",
    multiple=True,
    metavar="TEXT",
    help="A text file or folder, topics or stdlib; may be given again. "
    "[default: what RUN was trained on]",
)
@click.option(
    "--part",
    type=OneOf("part", PARTS),
    metavar="NAME",
    help="Of the text: train, validation, test or all. [default: all of --data; else RUN's test "
    "part, or if that is empty its validation part]",
)
@click.option(
    "--split",
    type=Shares(),
    metavar="A,B,C",
    help="Shares for train, validation and test. [default: RUN's, else 0.8,0.1,0.1]",
)
@backend_option
def eval_(run, data, part, split, backend):
    """Say how well RUN predicts a text: bits per byte, perplexity and accuracy.

    RUN is a run's folder (its best weights, else its last) or the folder of one checkpoint.
    """
    with using_backend(backend):
        from minillm.cli.evaluating import score

        score(run, data, part, split)

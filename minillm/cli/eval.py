"""`minillm eval`: how well a trained model predicts a text."""

import click

from minillm.cli.options import Command, OneOf, Shares, backend_option, using_backend

__all__ = ["eval_"]

PARTS = ("train", "validation", "test", "all")


@click.command(
    "eval",
    cls=Command,
    example="  minillm eval runs/book\n  minillm eval runs/book --data another.txt\n"
    "  minillm eval runs/gpt runs/lstm runs/counts --data another.txt\n"
    "  minillm eval words.arpa.gz pieces.arpa@tok.json --data another.txt",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
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
@click.option(
    "--lines/--no-lines",
    default=None,
    help="Every line is a document of its own. [default: as RUN was trained; yes for an ARPA file]",
)
@click.option(
    "--tokenizer",
    metavar="FILE",
    help="Of the ARPA files that do not name theirs: whose tokens the words are. "
    "[default: words between white space]",
)
@click.option(
    "--mix",
    type=OneOf("mix", ("linear", "log-linear")),
    metavar="NAME",
    help="A mixture of the RUNs too, linear or log-linear; weights from the validation part.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the numbers to this file too.")
@backend_option
def eval_(runs, data, part, split, lines, tokenizer, mix, json_path, backend):
    """Say how well RUN predicts a text: bits per byte, perplexity and accuracy.

    RUN is a run's folder (its best weights, else its last), the folder of one checkpoint, or an
    ARPA file; m.arpa@tok.json names the tokenizer whose tokens its words are. Several stand in one
    table. Bits per byte compare models over any tokenizers: all tokens' bits over the bytes of the
    text; perplexity and accuracy are by token.
    """
    with using_backend(backend):
        from minillm.cli.evaluating import evaluate_runs

        evaluate_runs(runs, data, part, split, lines, tokenizer, json_path, mix)

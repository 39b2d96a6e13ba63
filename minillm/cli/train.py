"""`minillm train`: a model from a text, in a run folder that can be resumed."""

from pathlib import Path

import click

from minillm.cli.lasting import lasting_output
from minillm.cli.options import (
    Command,
    OneOf,
    Shares,
    backend_option,
    check_out,
    flag_of,
    suggest,
    using_backend,
)
from minillm.cli.settings import COUNTED, MODELS, SETTINGS, TOKENIZERS, options
from minillm.errors import UserError

__all__ = ["train"]

EXAMPLE = """\
  minillm train gpt --data book.txt --split 0.9,0.1,0 --out runs/book --steps 2000
  minillm train lstm --config lstm.toml --out runs/lstm
  minillm train ngram --data book.txt --tokenizer bpe --vocab-size 2000 --order 5 --out runs/counts
  minillm train --resume --out runs/lstm"""


@click.command(
    cls=Command,
    groups={heading: [s.name for s in group] for heading, group in SETTINGS.items()},
    example=EXAMPLE,
)
@click.argument("model", type=OneOf("model", MODELS), required=False, metavar="MODEL")
@click.option(
    "--data",
    multiple=True,
    metavar="TEXT",
    help="A text file or a folder of them, UTF-8; may be given again. Or: topics, Python's help "
    "pages; stdlib, the standard library's source. [default: topics]",
)
@click.option(
    "--split",
    type=Shares(),
    metavar="A,B,C",
    help="Shares of the text for training, validation and test, in its order. "
    "[default: 0.8,0.1,0.1]",
)
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="What a token is: char, a character; byte, one of its UTF-8; word; whitespace, what "
    "stands between white space; bpe, wordpiece or unigram, a piece of a word. Or a FILE: "
    "tokenizer.json, vocab.json, .tiktoken, vocab.txt, .model. [default: char]",
)
@click.option(
    "--vocab-size",
    type=int,
    metavar="N",
    help="Tokens of a tokenizer that is trained here. [default: by its kind]",
)
@click.option(
    "--lines/--no-lines",
    default=None,
    help="Every line is a document of its own, as KenLM reads a text. [default: no]",
)
@click.option(
    "--out", required=True, metavar="DIR", help="The run's folder; it must hold no run yet."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --out, bit for bit, by its own settings; --steps may be raised.",
)
@click.option("--arpa", metavar="FILE", help="ngram: write an ARPA file too; .gz for gzip.")
@backend_option
@options
def train(model, out, resume, backend, arpa, **given):
    """Train MODEL on a text: gpt, rnn, lstm, gru, neural-ngram; or count one: ngram,
    unigram, uniform.

    Ctrl-C ends a run with a checkpoint. The folder keeps the newest weights in last, those of the
    best validation in best, what was measured in metrics.jsonl and its picture in curve.png.
    """
    _check_tokenizer(given["tokenizer"])
    given = {name: value for name, value in given.items() if value not in (None, ())}
    check_out(out)
    with using_backend(backend), lasting_output():
        from minillm.cli import fitting

        if resume:
            model, given = fitting.settings_of_run(out, model, given)
        if model is None:
            raise UserError(f"which model? there are: {', '.join(MODELS)}")
        _refuse_foreign(model, given)
        if arpa is not None and model != "ngram":
            raise UserError(f"{model} takes no --arpa: it is for ngram")
        if model in COUNTED:
            return fitting.count(model, out, resume, given, arpa)
        return fitting.fit(model, out, resume, given)


def _check_tokenizer(name):
    """Refuse what is neither a tokenizer's name nor that of anything on the disk."""
    if name is not None and name not in TOKENIZERS and not Path(name).exists():
        raise UserError(
            f"unknown tokenizer {name!r}, and no such file: {suggest(name, TOKENIZERS)}"
        )


def _refuse_foreign(model, given):
    """Refuse a setting that the model has no use for, rather than pass over it."""
    for setting in (s for group in SETTINGS.values() for s in group):
        if setting.name in given and model not in setting.models:
            wanted = ", ".join(setting.models)
            raise UserError(f"{model} takes no {flag_of(setting.name)}: it is for {wanted}")

"""`minillm tokenize`: train a tokenizer, encode and decode with it, look at its tokens."""

from typing import Any

import click

from minillm.cli.options import Command, Commands, OneOf, flag_of
from minillm.cli.settings import TOKENIZERS
from minillm.errors import UserError

__all__ = ["tokenize"]

# option -> (the tokenizers that it is for, its type, its help)
SETTINGS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "min_frequency": (
        ("word", "whitespace", "bpe", "wordpiece"),
        int,
        "How often a word or pair must come to be learnt. [default: word 1, bpe 0, wordpiece 2]",
    ),
    "pattern": (
        ("bpe",),
        ("gpt2", "cl100k", "cl100k_original"),
        "How text is cut before pairs are joined. [default: gpt2]",
    ),
    "character_coverage": (
        ("unigram",),
        float,
        "The share of the text whose characters become pieces. [default: 0.9995]",
    ),
    "byte_fallback": (("unigram",), bool, "Write other characters as bytes. [default: no]"),
    "lowercase": (("wordpiece",), bool, "All in lower case. [default: yes]"),
}
FILES = (
    "A tokenizer.json, vocab.json with merges.txt, .tiktoken, vocab.txt, .model, "
    "or a run's folder; or byte."
)


@click.group(cls=Commands, invoke_without_command=True)
@click.pass_context
def tokenize(context):
    """Train tokenizers; turn text into tokens and back; look at them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _settings(command):
    for name, (kinds, type_, text) in reversed(SETTINGS.items()):
        flag, text = flag_of(name), f"{'/'.join(kinds)}: {text}"
        if type_ is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
        elif isinstance(type_, tuple):
            text += f" One of {', '.join(type_)}."
            option = click.option(flag, type=OneOf(name, type_), metavar="NAME", help=text)
        else:
            metavar = {int: "N", float: "X"}[type_]
            option = click.option(flag, type=type_, metavar=metavar, help=text)
        command = option(command)
    return command


@tokenize.command(
    cls=Command,
    example="  minillm tokenize train --kind bpe --vocab-size 8000 --data book.txt --out tok.json\n"
    "  minillm tokenize train --kind unigram --vocab-size 8000 --data texts/ --out tok.model",
)
@click.option(
    "--kind",
    required=True,
    type=OneOf("kind", TOKENIZERS),
    metavar="NAME",
    help=f"{', '.join(TOKENIZERS)}.",
)
@click.option("--vocab-size", type=int, metavar="N", help="Tokens. [default: by the kind]")
@click.option(
    "--data",
    multiple=True,
    metavar="TEXT",
    help="A text file or folder, topics or stdlib; may be given again. [default: topics]",
)
@click.option(
    "--special",
    multiple=True,
    metavar="NAME",
    help="A special token, such as <|user|>; may be given again.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="Where to. bpe and wordpiece: a Hugging Face tokenizer.json; by the name's end also bpe: "
    ".tiktoken, wordpiece: .txt, unigram: .model (SentencePiece's); else JSON of our own. "
    "A file of that name is replaced.",
)
@_settings
def train(kind, vocab_size, data, special, out, **given):
    """Train a tokenizer on texts and write it to a file."""
    from minillm.cli.tokenizing import train_tokenizer

    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if kind not in SETTINGS[name][0]:
            wanted = ", ".join(SETTINGS[name][0])
            raise UserError(f"{kind} takes no {flag_of(name)}: it is for {wanted}")
    train_tokenizer(kind, data or ("topics",), out, vocab_size, special, given)


def _one_tokenizer(command):
    return click.option("--tokenizer", "-t", required=True, metavar="FILE", help=FILES)(command)


def _out(command):
    return click.option("--out", metavar="FILE", help="Where to. [default: standard output]")(
        command
    )


def _several_tokenizers(command):
    return click.option(
        "--tokenizer",
        "-t",
        "tokenizers",
        required=True,
        multiple=True,
        metavar="FILE",
        help=f"{FILES} Given again: side by side.",
    )(command)


@tokenize.command(
    cls=Command,
    example="  minillm tokenize encode -t tok.json book.txt --out ids.txt\n"
    '  minillm tokenize encode -t tok.json --text "Hello there"\n'
    "  minillm tokenize encode -t tok.json book.txt | minillm tokenize decode -t tok.json",
)
@click.argument("file", default="-")
@_one_tokenizer
@click.option("--text", metavar="TEXT", help="Encode this, and no file.")
@click.option(
    "--special",
    multiple=True,
    metavar="NAME",
    help="Read this special token where the text has its name, or all. [default: none]",
)
@click.option(
    "--offsets",
    is_flag=True,
    help="A line a token: its id, its first character and the one after its last.",
)
@_out
def encode(file, tokenizer, text, special, offsets, out):
    """Print the ids of FILE, or of standard input. A file may be larger than memory."""
    from minillm.cli.tokenizing import encode_text

    encode_text(file, tokenizer, text, special, offsets, out)


@tokenize.command(
    cls=Command,
    example="  minillm tokenize decode -t tok.json ids.txt\n"
    '  echo "72 101 108 108 111" | minillm tokenize decode -t byte',
)
@click.argument("file", default="-")
@_one_tokenizer
@click.option("--special", is_flag=True, help="Write special tokens by their names too.")
@_out
def decode(file, tokenizer, special, out):
    """Print the text of the ids in FILE, or on standard input: numbers between white space."""
    from minillm.cli.tokenizing import decode_ids

    decode_ids(file, tokenizer, special, out)


@tokenize.command(
    cls=Command,
    example='  minillm tokenize show -t tok.json -t byte --text "unbelievable"\n'
    "  minillm tokenize show -t tok.json -t gpt2/vocab.json page.txt --html page.html",
)
@click.argument("file", default="-")
@_several_tokenizers
@click.option("--text", metavar="TEXT", help="Show this, and no file.")
@click.option("--ids", is_flag=True, help="Write each token's number beside it.")
@click.option(
    "--special",
    multiple=True,
    metavar="NAME",
    help="Read this special token where the text has its name, or all. [default: none]",
)
@click.option("--html", metavar="FILE", help="Write a page instead.")
@click.option("--png", metavar="FILE", help="Draw a picture instead.")
@click.option("--colour/--no-colour", default=None, help="[default: in a terminal]")
def show(file, tokenizers, text, **how):
    """Show the tokens of a text, each in a colour; of several tokenizers side by side."""
    from minillm.cli.tokenizing import show_tokens

    show_tokens(file, tokenizers, text, **how)


@tokenize.command(
    cls=Command,
    example="  minillm tokenize languages -t tok.json -t byte\n"
    "  minillm tokenize languages -t tok.json --data a.txt --data b.txt --png bars.png",
)
@_several_tokenizers
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="A text to take instead of the samples of ten languages; may be given again.",
)
@click.option("--png", metavar="FILE", help="Draw a picture too.")
def languages(tokenizers, data, png):
    """Say how many bytes of a text each token holds, in different languages."""
    from minillm.cli.tokenizing import show_languages

    show_languages(tokenizers, data, png)

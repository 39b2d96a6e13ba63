"""`minillm score`: how good what a model wrote, or decided, is beside references."""

from typing import Any

import click

from minillm.cli.options import Command, OneOf, flag_of
from minillm.errors import UserError

__all__ = ["score"]

TEXT = ("bleu", "chrf", "ter", "rouge")
LABELS = ("accuracy", "f1", "seqeval")
METRICS = (*TEXT, *LABELS)
LONGEST = 100  # n-grams: no text is scored by longer ones, and memory grows with them
SAMPLES = 1_000_000  # of the bootstrap: enough for a p-value of a millionth
SCHEMES = ("IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU")

# option -> (the metrics that it is for, its type, its help); a type of bool is a flag
OPTIONS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "tokenizer": (
        ("bleu", "rouge"),
        str,
        "What a word is: 13a, intl, zh, char or none; of ROUGE: rouge, or unicode for any script.",
    ),
    "lowercase": (("bleu", "chrf"), bool, "Without regard to case."),
    "smoothing": (("bleu",), str, "exp, floor, add-k or none. [default: exp]"),
    "smoothing_value": (("bleu",), float, "Of floor (0.1) and add-k (1)."),
    "max_order": (("bleu",), int, "Longest n-gram. [default: 4]"),
    "effective_order": (("bleu",), bool, "Leave out lengths that the text is too short for."),
    "char_order": (("chrf",), int, "Longest n-gram of characters. [default: 6]"),
    "word_order": (("chrf",), int, "... of words; 2 makes it chrF++. [default: 0]"),
    "beta": (("chrf",), float, "How much more recall weighs. [default: 2]"),
    "whitespace": (("chrf",), bool, "Count white space too."),
    "normalized": (("ter",), bool, "Part punctuation from words."),
    "no_punct": (("ter",), bool, "Take punctuation off."),
    "asian_support": (("ter",), bool, "Part Chinese and Japanese characters too."),
    "case_sensitive": (("ter",), bool, "With regard to case."),
    "types": (
        ("rouge",),
        str,
        "Some of rouge1, rouge2, ..., rougeL, rougeLsum. [default: rouge1,rouge2,rougeL,rougeLsum]",
    ),
    "stem": (("rouge",), bool, "Take English endings off (needs NLTK)."),
    "line_break": (("rouge",), str, "What stands for a line break inside a text, for rougeLsum."),
    "zero_division": (("f1", "seqeval"), float, "A quotient over zero: 0 or 1. [default: 0]"),
    "scheme": (
        ("seqeval",),
        SCHEMES,
        f"Be strict: read entities by {', '.join(SCHEMES)} alone. [default: lenient, as conlleval]",
    ),
    "suffix": (("seqeval",), bool, "Tags are PER-B rather than B-PER."),
    "columns": (("seqeval",), bool, "A tag a line, the last word of it; an empty line between."),
}


def _add_options(command):
    for name, (metrics, kind, text) in reversed(OPTIONS.items()):
        text = f"{'/'.join(metrics)}: {text}"
        if kind is bool:
            option = click.option(flag_of(name), is_flag=True, default=None, help=text)
        elif isinstance(kind, tuple):
            option = click.option(flag_of(name), type=OneOf(name, kind), metavar="NAME", help=text)
        else:
            metavar = {str: "TEXT", int: "N", float: "X"}[kind]
            option = click.option(flag_of(name), type=kind, metavar=metavar, help=text)
        command = option(command)
    return command


@click.command(
    cls=Command,
    groups={"Settings of the metrics": list(OPTIONS)},
    example="  minillm score --metric bleu --metric chrf ours.txt --ref reference.txt\n"
    "  minillm score --metric bleu --tokenizer zh ours.txt --ref a.txt --ref b.txt\n"
    "  minillm score --metric bleu baseline.txt --compare ours.txt --ref reference.txt\n"
    "  minillm score --metric f1 predicted.txt --ref labels.txt\n"
    "  minillm score --metric seqeval --scheme IOB2 tags.txt --ref true-tags.txt",
)
@click.argument("hyp")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    required=True,
    type=OneOf("metric", METRICS),
    metavar="NAME",
    help=f"{', '.join(METRICS)}; may be given again.",
)
@click.option(
    "--ref",
    "refs",
    multiple=True,
    required=True,
    metavar="FILE",
    help="The references, a line for each of HYP; given again: further ones for the same lines.",
)
@click.option(
    "--compare",
    metavar="FILE",
    help="A second system: is it better than HYP? By a paired bootstrap over the lines.",
)
@click.option("--samples", type=int, metavar="N", help="Of the bootstrap. [default: 1000]")
@click.option("--level", type=float, metavar="X", help="Of its intervals. [default: 0.95]")
@click.option("--seed", type=int, metavar="N", help="Of its draws. [default: 12345, sacrebleu's]")
@click.option("--json", "json_path", metavar="FILE", help="Write the scores to this file too.")
@_add_options
def score(hyp, metrics, refs, compare, samples, level, seed, json_path, **given):
    """Score HYP, a file of one text a line, by its references.

    For accuracy and f1 a line is a label; for seqeval a line holds the tags of a sentence. A file
    named - is standard input.
    """
    from minillm.cli.scoring import score_files

    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if not set(metrics) & set(OPTIONS[name][0]):
            wanted = " and ".join(OPTIONS[name][0])
            raise UserError(f"{metrics[0]} takes no {flag_of(name)}: it is for {wanted}")
    _check_range(given)
    _check_resampling(samples, level, seed)
    resampling = {"samples": samples, "level": level, "seed": seed}
    resampling = {name: value for name, value in resampling.items() if value is not None}
    if resampling and compare is None:
        raise UserError(f"{flag_of(next(iter(resampling)))} is for --compare")
    settings = {
        metric: {name: value for name, value in given.items() if metric in OPTIONS[name][0]}
        for metric in dict.fromkeys(metrics)
    }
    score_files(hyp, refs, settings, compare=compare, resampling=resampling, json_path=json_path)


def _check_range(given):
    """Refuse settings that the metrics take for a programmer's mistake."""
    if given.get("zero_division", 0) not in (0, 1):
        raise UserError(f"--zero-division must be 0 or 1, got {given['zero_division']:g}")
    if given.get("max_order", 1) < 1:
        raise UserError(f"--max-order must be at least 1, got {given['max_order']}")
    for name in ("max_order", "char_order", "word_order"):
        if given.get(name, 0) > LONGEST:
            raise UserError(f"{flag_of(name)} must be at most {LONGEST}, got {given[name]}")
    for one in given.get("types", "").split(","):
        length = one.removeprefix("rouge")
        if length.isdecimal() and (len(length) > 9 or int(length) > LONGEST):
            raise UserError(f"--types: rougeN must have N of at most {LONGEST}, got {one[:40]}")


def _check_resampling(samples, level, seed):
    if samples is not None and not 1 <= samples <= SAMPLES:
        raise UserError(f"--samples must be at least 1 and at most {SAMPLES:,}, got {samples}")
    if level is not None and not 0 < level < 1:
        raise UserError(f"--level must be a number between 0 and 1, such as 0.95, got {level:g}")
    if seed is not None and seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")

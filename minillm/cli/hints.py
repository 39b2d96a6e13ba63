"""What `minillm score` says of a score that is low for another reason than the texts."""

import itertools

import regex

from minillm.metrics.sequence import entity_counts

__all__ = ["hint"]

UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]{8}")  # longer than a word of these
ASCII_WORD = regex.compile("[a-zA-Z0-9]")


def hint(metric, measure, systems):
    """A line on the settings that a metric's texts ask for, or None."""
    return HINTS[metric](measure, systems) if metric in HINTS else None


def _bleu(measure, systems):
    if measure.settings.get("tokenizer", "13a") not in ("13a", "none"):
        return None
    many = sum(bool(UNSPACED.search(line)) for line in _lines(measure, systems))
    return f"note: {many} lines have no spaces between words: try --tokenizer zh" if many else None


def _rouge(measure, systems):
    if measure.settings.get("tokenizer", "rouge") != "rouge":
        return None
    many = sum(not ASCII_WORD.search(line) for line in _lines(measure, systems))
    return f"note: no word of a-z or 0-9 in {many} lines: try --tokenizer unicode" if many else None


def _seqeval(measure, systems):
    scheme = measure.settings.get("scheme")
    if scheme is None or all(tag == "O" for tags in measure.truth for tag in tags):
        return None
    reading = {k: v for k, v in measure.settings.items() if k != "zero_division"}
    labels, _ = entity_counts(measure.truth, measure.truth, **reading)
    if len(labels):
        return None
    return f"note: by {scheme} the references hold no entity: are their tags of another scheme?"


def _lines(measure, systems):
    """Those of all texts that are not blank."""
    lines = itertools.chain(*systems, *measure.references)
    return [line for line in lines if line.strip()]


HINTS = {"bleu": _bleu, "rouge": _rouge, "seqeval": _seqeval}

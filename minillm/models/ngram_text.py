"""N-gram models of words from a text, a line a sentence, and scores of lines: as KenLM is used."""

import functools
import os
from pathlib import Path

import numpy as np

from minillm.errors import UserError
from minillm.models.ngram import NGram
from minillm.models.ngram_arpa import BEGIN, END, UNKNOWN
from minillm.models.ngram_lookup import Vocabulary
from minillm.models.ngram_score import back_off_scores
from minillm.models.ngram_words import read_words
from minillm.tokenizers.base import utf8
from minillm.tokenizers.word import WordTokenizer

__all__ = ["score_lines", "train_on_lines"]


def train_on_lines(text, *, order=5, progress=None, **settings):
    """Count the words of a text, each line a document; what `lmplz` does.

    Three kinds of text are read differently, see ngram_words.py.

    The vocabulary is all words that occur, the most frequent first, then END and UNKNOWN.

    Parameters
    ----------
    text : path of a file in UTF-8, or the bytes of one
    order : int
    progress : function of (lengths counted, order) or None
    settings : of NGramConfig, such as compatibility="kenlm" for the very numbers of lmplz

    Returns
    -------
    model : NGram, with a WordTokenizer by white space

    Raises
    ------
    UserError
        if the file cannot be read or is not UTF-8, if <s>, </s> or <unk> is a word of the text, or
        there is no line at all.
    ValueError
        for a text that is neither a path nor bytes.
    """
    if not isinstance(text, str | bytes | os.PathLike):
        raise ValueError(f"text must be a path or bytes, got {type(text).__name__}")
    try:
        data = text if isinstance(text, bytes) else Path(text).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {os.fspath(text)!s}: {error.strerror or error}") from None
    words = read_words(data)
    # to look in the bytes is quick, and they nearly always settle it
    for name in [name for name in (BEGIN, END, UNKNOWN) if name.encode() in data]:
        if name in words.names:
            raise UserError(f"the text holds the word {name!r}, which has a meaning of its own")
    del data
    tokenizer = WordTokenizer.from_words(words.names, end=END, unknown=UNKNOWN)
    return NGram.train(words.ids, tokenizer, order=order, progress=progress, **settings)


def score_lines(model, lines):
    """log10 of the probability of each word and each line's end; what `full_scores` gives.

    Parameters
    ----------
    model : NGram, with a WordTokenizer by white space
    lines : iterable of str, without line feeds

    Returns
    -------
    log10_p : float64 (N,), of the words of all lines, after each line's of its end
    stop : int64 (lines,), where in it each line ends: line i has log10_p[stop[i - 1] : stop[i]]

    Raises
    ------
    ValueError
        for a line with a line feed in it, or lines that are no iterable of str.
    UserError
        for a model whose tokens are not words between white space.
    """
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, WordTokenizer) or tokenizer.split != "whitespace":
        raise UserError(
            "lines are scored by their words between white space; this model's tokens are those "
            f"of {_named(tokenizer)}"
        )
    if isinstance(lines, str | bytes):
        raise ValueError(f"lines must be an iterable of str, got one {type(lines).__name__}")
    try:
        lines = list(lines)
        text = "\n".join([*lines, ""])
    except TypeError as error:
        raise ValueError(f"lines must be an iterable of str: {error}") from None
    data = utf8(text)
    ids, is_end = _vocabulary(tokenizer).ids(data)
    stop = np.flatnonzero(is_end) + 1
    if len(stop) != len(lines):
        raise ValueError(f"{len(lines)} lines hold {len(stop) - len(lines)} line feeds")
    back_off = model.is_distribution and not model.alone
    log_p = back_off_scores(model, ids) if back_off else model.log_p(ids)
    log_p /= np.log(10)
    return log_p, stop


def _named(tokenizer):
    split = f" with split={tokenizer.split!r}" if isinstance(tokenizer, WordTokenizer) else ""
    return f"the {tokenizer.kind} tokenizer{split}"


@functools.lru_cache(maxsize=1)
def _vocabulary(tokenizer):
    return Vocabulary(tokenizer)

"""Our side of `minillm bench classical`: n-gram models of words, trained and asked.

The text: Python source, a line a sentence, words between white space: the standard library's with
its tests, by path, and after it as much of the installed packages' as the number of words asks for.
Tested on: the lines of Python's help topics. Training begins with the bytes of the text, or with
its file, and ends with a model in memory; the table in which n-grams are looked up is filled when
one is first asked for, which is part of neither.
"""

import os
import sysconfig
import tempfile
from pathlib import Path

from minillm.data.files import decode, files_below
from minillm.data.python import topics
from minillm.errors import UserError
from minillm.models.ngram_text import score_lines, train_on_lines

__all__ = ["lines_of_code", "lines_of_help", "ngram_score", "ngram_train", "ngram_train_file"]

RESERVED = {"<s>", "</s>", "<unk>"}  # words that lmplz refuses


def lines_of_code(tokens):
    """Lines, each of words between single spaces, which together have that many words.

    Raises
    ------
    UserError
        if this Python has less of its source.
    """
    lines: list[str] = []
    missing = tokens
    for file in _sources():
        try:
            text = decode(file.read_bytes(), file)
        except (UserError, OSError):  # a few tests are wrong on purpose
            continue
        for words in map(_words, text.split("\n")):
            if words and missing > 0:
                lines.append(" ".join(words[:missing]))
                missing -= len(words)
        if missing <= 0:
            return lines
    raise UserError(f"this Python has {tokens - missing} words of source, not {tokens}")


def lines_of_help():
    """The lines of the help topics, each of words between single spaces, none empty."""
    lines = (" ".join(_words(line)) for _, text in topics()[0] for line in text.split("\n"))
    return [line for line in lines if line]


def ngram_train(threads, *, order, tokens):
    """Modified Kneser-Ney, the text in memory."""
    _use(threads)
    text = _bytes(lines_of_code(tokens))
    return lambda: train_on_lines(text, order=order), 1


def ngram_train_file(threads, *, order, tokens):
    """Modified Kneser-Ney with KenLM's numbers, from a file."""
    _use(threads)
    path = text_file(tokens)
    return lambda: train_on_lines(path, order=order, compatibility="kenlm"), 1


def ngram_score(threads, *, order, tokens):
    """Lines of text to a number for each word and line's end; one piece is a number."""
    _use(threads)
    model = train_on_lines(_bytes(lines_of_code(tokens)), order=order, compatibility="kenlm")
    lines = lines_of_help()
    return lambda: score_lines(model, lines), len(score_lines(model, lines)[0])


def text_file(tokens):
    """A file of `lines_of_code`, in a folder that is there as long as the process."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    path = Path(folder.name) / "text"
    path.write_bytes(_bytes(lines_of_code(tokens)))
    return path


_FOLDERS: list = []


def _sources():
    library, packages = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    yield from files_below(library, (".py",), lambda name: name.endswith("-packages"))
    yield from files_below(packages, (".py",), lambda name: False)


def _words(line):
    return [word for word in line.split() if word not in RESERVED]


def _bytes(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def _use(threads):
    """Leave this process so many processors, by which our code chooses its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

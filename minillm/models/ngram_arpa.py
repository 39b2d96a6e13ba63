r"""ARPA files: n-gram models as text, which SRILM, KenLM and others read and write.

    \data\            how many n-grams there are of each length
    ngram 1=...
    \1-grams:         a line each: log10 p, the n-gram, and where it can be a context log10 of its
    -1.5  word  -0.3  back-off weight (0 where missing)
    \end\

The end id is two words there: </s> where it is predicted, <s> where it begins a document. The
unknown id is <unk>. Zero, whose logarithm is no number, is written as -99 and read back as zero,
which is SRILM's convention.

A word must not hold white space: where a token's name does, all names are written with %XX for each
byte of UTF-8 that is white space, a control character or a percent sign (and % alone for no byte at
all), and the first line of the file says so.

Formats: https://www.speech.sri.com/projects/srilm/manpages/ngram-format.5.html. Left out: KenLM's
binary files; words of several numbers (factored models).
"""

import re
import zlib
from collections import Counter
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from minillm.errors import UserError
from minillm.files import write_chunks

__all__ = [
    "BEGIN",
    "END",
    "ESCAPED",
    "LEAST",
    "UNKNOWN",
    "arpa_names",
    "unescape",
    "write_arpa",
]

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ESCAPED = "# minillm: in words, %XX is a byte of UTF-8"
RESERVED = re.compile(rf"{BEGIN}|{END}|{UNKNOWN}")
UNSAFE = re.compile(r"[\x00-\x20%\x7f]")
LINES = 1 << 15  # written at once
LEAST = -99.0  # stands for log10 of zero, as in SRILM; KenLM takes it for what it says


def write_arpa(model, path, *, progress=None):
    """Write an n-gram model as an ARPA file, whole or not at all; gzipped if its name ends in .gz.

    Parameters
    ----------
    model : NGram
    path : path
    progress : function of (n-grams written, all) or None

    Raises
    ------
    UserError
        for a smoothing that is not of back-off form (add-k and Good-Turing, whose lower
        distribution is uniform, and stupid back-off), for two tokens of one name, or if the file
        cannot be written.
    """
    if model.alone or not model.is_distribution:
        raise UserError(
            f"{model.config.smoothing} has no back-off weights, which an ARPA file needs"
        )
    lines = _lines(model, progress or (lambda done, total: None))
    write_chunks(path, _gzipped(lines) if Path(path).suffix == ".gz" else lines)


def _lines(model, report):
    """The file in pieces, bytes."""
    names, escaped = arpa_names(model.tokenizer)
    sizes = [len(level.keys) for level in model.levels]
    sizes[0] += 1  # <s>
    head = [ESCAPED] if escaped else []
    head += ["\\data\\", *(f"ngram {n}={size}" for n, size in enumerate(sizes, start=1)), ""]
    yield ("\n".join(head) + "\n").encode()
    done = 0
    for n, level in enumerate(model.levels, start=1):
        yield f"\\{n}-grams:\n".encode()
        if n == 1 and len(model.levels) > 1:
            weight = _log10(model.levels[1].backoff[[model.tokenizer.end_id]])[0]
            yield f"0\t{BEGIN}\t{weight:.9g}\n".encode()
        elif n == 1:
            yield f"0\t{BEGIN}\n".encode()
        for start in range(0, len(level.keys), LINES):
            grams = np.arange(start, min(start + LINES, len(level.keys)))
            yield _section(model, names, n, grams)
            done += len(grams)
            report(done, sum(sizes) - 1)
        yield b"\n"
    yield b"\\end\\\n"


def _section(model, names, n, grams):
    """The lines of some n-grams of length n."""
    columns: list[np.ndarray] = []
    gram = grams
    for level in reversed(model.levels[:n]):
        gram, token = np.divmod(level.keys[gram], model.vocab_size)
        columns.insert(0, names[token])
    end_id = model.tokenizer.end_id
    if n > 1:  # the end id in first place begins a document
        columns[0][token == end_id] = BEGIN
    ends = model.levels[n - 1].keys[grams] % model.vocab_size == end_id
    words = map(" ".join, zip(*(column.tolist() for column in columns), strict=True))
    p = np.minimum(_log10(model.levels[n - 1].p[grams]), 0).tolist()
    if n == len(model.levels):
        rows = [f"{x:.9g}\t{w}\n" for x, w in zip(p, words, strict=True)]
    else:
        weight = np.where(ends, 0.0, _log10(model.levels[n].backoff[grams])).tolist()
        rows = [f"{x:.9g}\t{w}\t{b:.9g}\n" for x, w, b in zip(p, words, weight, strict=True)]
    return "".join(rows).encode()


def arpa_names(tokenizer):
    """The word of each token, an object array (V,), and whether they are escaped."""
    names = [tokenizer.token_name(i) for i in range(tokenizer.vocab_size)]
    special = {tokenizer.end_id: END}
    if tokenizer.unknown_id is not None:
        special[tokenizer.unknown_id] = UNKNOWN
    plain = [name for i, name in enumerate(names) if i not in special]
    escaped = any(not x or re.search(r"[\x00-\x20\x7f]", x) or RESERVED.fullmatch(x) for x in plain)
    if escaped:
        names = [_escape(name) for name in names]
    for i, name in special.items():
        names[i] = name
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"two tokens are named {twice!r}, which an ARPA file cannot tell apart")
    result = np.empty(len(names), object)
    result[:] = names
    return result, escaped


def _escape(name):
    if RESERVED.fullmatch(name):
        return "%3C" + name[1:]
    return UNSAFE.sub(lambda found: f"%{ord(found.group()):02X}", name) or "%"


def unescape(word):
    """The name that is written as `word` in a file whose first line is ESCAPED."""
    return "" if word == "%" else unquote_to_bytes(word).decode("utf-8")


def _log10(p):
    return np.log10(p, out=np.full(len(p), LEAST), where=p > 0)


def _gzipped(chunks):
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with gzip's header, without a time
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()

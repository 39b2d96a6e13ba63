"""Reading ARPA files, see ngram_arpa.py: from anyone's file to a model that can be used.

Two things are put right on the way. A back-off weight that is not given is 1. And an n-gram whose
first or last words are not in the file on their own, as SRILM's pruning leaves them, gets those
with the probability that backing off gives them anyway; so nothing changes but what is stored.
"""

import contextlib
import gzip
import itertools
import re
import zlib

import numpy as np

from minillm.errors import UserError
from minillm.models.ngram import NGram
from minillm.models.ngram_arpa import BEGIN, END, ESCAPED, UNKNOWN, arpa_names, unescape
from minillm.models.ngram_arpa_table import Missing, Table, complete, look_up, power, unigrams
from minillm.models.ngram_config import GIVEN, NGramConfig
from minillm.models.ngram_level import Level
from minillm.tokenizers.word import WordTokenizer

__all__ = ["read_arpa"]

LINES = 1 << 15  # read at once
HIGHEST = 308  # log10 of what a float64 can hold, about
COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)\s*$")


def read_arpa(path, tokenizer=None, *, progress=None):
    """The model in an ARPA file, plain or gzipped.

    Parameters
    ----------
    path : path
    tokenizer : Tokenizer or None: the one whose tokens the file's words name, as `write_arpa` wrote
        them; None for one by white space over the words of the file
    progress : function of (n-grams read, all) or None

    Returns
    -------
    model : NGram

    Raises
    ------
    UserError
        naming the line at which the file is damaged, or why it cannot be read.
    """
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return _Reader(path, file, progress or (lambda done, total: None)).model(tokenizer)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: cut off or damaged, no whole gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


class _Reader:
    def __init__(self, path, file, report):
        self.path, self.file, self.report = path, file, report
        self.line = self.done = self.total = 0  # lines read; n-grams read, and in the head

    def model(self, tokenizer):
        sizes, escaped = self._head()
        self.highest = HIGHEST / len(sizes)  # as a score may be a product of one of each length
        self.total = sum(sizes)
        start = self._section(1)
        words, p, weight = self._rows(1, sizes[0])
        names = [self._name(word, start + i, escaped) for i, word in enumerate(words)]
        tokenizer, id_of = self._vocabulary(names, words, start, tokenizer)
        table = unigrams([id_of[word] for word in words], p, weight, tokenizer)
        tables = [table]
        for n, size in enumerate(sizes[1:], start=2):
            start = self._section(n)
            words, p, weight = self._rows(n, size)
            tokens = self._ids(words, id_of, start, n, tokenizer)
            tables.append(Table(tokens, p, weight, start))
        self._expect(b"\\end\\")
        with contextlib.suppress(Missing):
            return self._assemble(tables, tokenizer)
        complete(tables)
        return self._assemble(tables, tokenizer)

    def _head(self):
        """How many n-grams there are of each length, and whether their words are escaped."""
        escaped, line = False, self._next()
        while line.strip() != b"\\data\\":
            escaped |= line.strip() == ESCAPED.encode()
            line = self._next()
        sizes: list[int] = []
        while (line := self._next()).strip():
            found = COUNT.match(line.strip())
            if not found or int(found[1]) != len(sizes) + 1:
                raise self._error(f"expected 'ngram {len(sizes) + 1}=' and a number, got {line!r}")
            sizes.append(int(found[2]))
        if not sizes:
            raise self._error("no 'ngram 1=' after \\data\\")
        return sizes, escaped

    def _section(self, n):
        """Go to the n-grams of a length; the line at which they begin."""
        self._expect(rb"\%d-grams:" % n)
        return self.line + 1

    def _expect(self, text):
        while not (line := self._next()).strip():
            pass
        if line.strip() != text:
            raise self._error(f"expected {text.decode()}, got {line.decode(errors='replace')!r}")

    def _next(self):
        line = self.file.readline()
        self.line += 1
        if not line:
            raise self._error("the file ends too early")
        return line

    def _rows(self, n, size):
        """The words (n * size,), log10 p (size,) and log10 weights (size,) of n-grams."""
        words: list[bytes] = []
        p, weight = np.empty(size), np.empty(size)
        for low in range(0, size, LINES):
            high = min(low + LINES, size)
            lines = [line.rstrip(b"\r\n") for line in itertools.islice(self.file, high - low)]
            try:
                found = _columns(lines, n)
            except (ValueError, IndexError):  # not as most files are, or damaged: look closer
                found = self._line_by_line(lines, n)
            if len(lines) < high - low:
                self.line += len(lines) + 1
                raise self._error("the file ends too early")
            words += found[0]
            p[low:high], weight[low:high] = found[1:]
            wrong = ~(p[low:high] <= 0) | ~(weight[low:high] <= self.highest)
            if wrong.any():
                at = int(wrong.argmax())
                raise self._error(f"not log10 of a probability: {lines[at]!r}", self.line + at + 1)
            self.line += len(lines)
            self.done += len(lines)
            self.report(self.done, self.total)
        return words, p, weight

    def _line_by_line(self, lines, n):
        words: list[bytes] = []
        p, weight = [], []
        for at, line in enumerate(lines, start=1):
            if b"\t" in line:
                number, gram, *rest = line.split(b"\t")
                fields = gram.split(b" ")
            else:
                number, *fields = line.split() or [b""]
                fields, rest = fields[:n], fields[n:]
            try:
                if len(fields) != n or b"" in fields or len(rest) > 1:
                    raise ValueError
                p.append(float(number))
                weight.append(float(rest[0]) if rest else 0.0)
            except ValueError:
                shown = line.decode(errors="replace")
                what = f"expected a number, {n} words and perhaps a number, got {shown!r}"
                raise self._error(what, self.line + at) from None
            words += fields
        return words, p, weight

    def _name(self, word, line, escaped):
        try:
            name = word.decode("utf-8")
            return unescape(name) if escaped else name
        except UnicodeDecodeError:
            raise self._error(f"the word {word!r} is not UTF-8", line) from None

    def _vocabulary(self, names, words, start, tokenizer):
        """The tokenizer, and the id of each of the file's words; <s> has the vocabulary's size."""
        if len(set(words)) < len(words):
            seen: set = set()
            for at, word in enumerate(words):
                if word in seen:
                    raise self._error(
                        f"{word.decode()!r} stands here for the second time", start + at
                    )
                seen.add(word)
        if tokenizer is None:
            kept = [x for x, word in zip(names, words, strict=True) if word != BEGIN.encode()]
            tokenizer = WordTokenizer.from_words(kept, end=END, unknown=UNKNOWN)
            id_of = dict(
                zip((w for w in words if w != BEGIN.encode()), range(len(kept)), strict=True)
            )
            id_of[END.encode()] = tokenizer.end_id
        else:
            id_of = {x.encode(): i for i, x in enumerate(arpa_names(tokenizer)[0])}
            for at, word in enumerate(words):
                if word not in id_of and word != BEGIN.encode():
                    raise self._error(f"the tokenizer has no token {word.decode()!r}", start + at)
        id_of[BEGIN.encode()] = tokenizer.vocab_size
        return tokenizer, id_of

    def _ids(self, words, id_of, start, n, tokenizer):
        """The tokens of n-grams (m, n), <s> as the end id."""
        try:
            ids = np.fromiter(map(id_of.__getitem__, words), np.int64, len(words)).reshape(-1, n)
        except KeyError:
            at = next(i for i, word in enumerate(words) if word not in id_of)
            shown = words[at].decode(errors="replace")
            raise self._error(f"{shown!r} is not among the words", start + at // n) from None
        begin = ids == tokenizer.vocab_size
        wrong = begin[:, 1:].any(1) | (ids[:, :-1] == tokenizer.end_id).any(1)
        if wrong.any():
            at = int(wrong.argmax())
            raise self._error(f"{BEGIN} must come first, {END} last", start + at)
        ids[begin] = tokenizer.end_id
        return ids

    def _assemble(self, tables, tokenizer):
        """The model; raises Missing where an n-gram's first or last words have no place."""
        size = tokenizer.vocab_size
        levels: list[Level] = []
        backoff = np.zeros(1)
        for n, table in enumerate(tables, start=1):
            context = look_up(levels, table.tokens[:, :-1])
            suffix = look_up(levels, table.tokens[:, 1:])
            if min(context.min(initial=0), suffix.min(initial=0)) < 0:
                raise Missing
            keys = context * size + table.tokens[:, -1]
            order = np.argsort(keys, kind="stable")
            keys, suffix = keys[order], suffix[order]
            if len(twice := np.flatnonzero(keys[1:] == keys[:-1])):
                raise self._error(
                    "stands here for the second time", table.line + order[twice[0] + 1]
                )
            p = power(table.p[order])
            implied = np.isnan(p)
            if implied.any():
                p[implied] = backoff[keys[implied] // size] * levels[-1].p[suffix[implied]]
            levels.append(Level(keys, p, backoff, size, levels[-1] if levels else None, suffix))
            backoff = power(table.weight[order])
            backoff[keys % size == tokenizer.end_id] = 1.0 if n > 1 else backoff[tokenizer.end_id]
        return NGram(NGramConfig(order=len(tables), smoothing=GIVEN), tokenizer, levels)

    def _error(self, what, line=None):
        return UserError(f"{self.path}, line {line or self.line}: {what}")


def _columns(lines, n):
    """Words, log10 p and weights of lines whose fields have tabs between them.

    Raises ValueError or IndexError where a line is anything else.
    """
    fields = [line.split(b"\t") for line in lines]
    p = [float(field[0]) for field in fields]
    weight = [float(field[2]) if len(field) > 2 else 0.0 for field in fields]
    grams = [field[1] for field in fields]
    if any(gram.count(b" ") != n - 1 for gram in grams) or max(map(len, fields), default=0) > 3:
        raise ValueError
    words = b" ".join(grams).split(b" ") if grams else []
    if b"" in words:
        raise ValueError
    return words, p, weight

"""Fingerprints of a student's CUDA C, by its tokens; what fingerprint.py is for Python.

Only the bodies count, each a stream of its own. Names that are neither the language's nor CUDA's
are the student's own, and are numbered within a k-gram. Semicolons, braces, directives, `const` and
`__restrict__` leave no token; `x += y` is `x = x + y`, where x is a plain name.
"""

from minillm.course.cuda_source import KNOWN, tokens
from minillm.course.fingerprint import KEPT_NUMBERS, grams, winnow

__all__ = ["cuda_fingerprints"]

SILENT = {";", "{", "}", "const", "__restrict__"}
PARTS = {"x", "y", "z", "w"}  # of CUDA's vectors and indices


def cuda_fingerprints(text, everything=False):
    """The winnowed k-grams of a file; parameters as for fingerprint.fingerprints.

    Raises
    ------
    CudaSourceError
        for a text that is no CUDA C.
    """
    found = []
    for stream in _streams(text):
        made = grams(stream)
        found += made if everything else winnow(made)
    return found


def _streams(text):
    """Lists of (token, line), one for each body at the top level."""
    streams: list[list] = []
    depth = 0
    pieces = [token for token in tokens(text) if not token.directive]
    for index, token in enumerate(pieces):
        if token.text == "{":
            depth += 1
            if depth == 1:
                streams.append([])
        elif token.text == "}":
            depth -= 1
        if depth > 0 and token.text not in SILENT:
            before = pieces[index - 1]
            streams[-1] += [(piece, token.row) for piece in _pieces(token, before)]
    return streams


def _pieces(token, before):
    """A token as fingerprints have it; a compound assignment gives two or three."""
    if token.kind == "name":
        part = before.text == "." and token.text in PARTS
        return [token.text if part or token.text in KNOWN else (token.text,)]
    if token.kind == "number":
        number = token.text.rstrip("fFuUlL")
        kept = any(number in (f"{value:g}", f"{value:.1f}") for value in KEPT_NUMBERS)
        return [f"{float(number):g}" if kept else "number"]
    if token.kind == "string":
        return ["string"]
    compound = len(token.text) > 1 and token.text[-1] == "=" and token.text[:-1] in "+-*/%&|^"
    if compound and before.kind == "name":
        return ["=", (before.text,), token.text[:-1]]
    return [token.text]

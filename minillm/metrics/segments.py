"""What the metrics of generated text are given: hypotheses, and one reference or several of each.

A segment is a hypothesis with its references. Where other tools take one list per reference
translator, here each hypothesis brings its own, so that their number may differ.
"""

import numpy as np

from minillm.errors import UserError
from minillm.metrics.checks import listed

__all__ = ["check_segments", "chunks", "flatten", "ratio", "references_named", "signature"]

CHUNK = 1 << 20  # characters counted at once, which bounds the memory that it takes


def check_segments(hypotheses, references):
    """Both as lists: of str, and of lists of str.

    Parameters
    ----------
    hypotheses : S str
    references : S entries, each a str, or a list or tuple of several

    Raises
    ------
    ValueError
        for what is no text.
    UserError
        for no segment at all, other numbers of both, or a hypothesis without a reference.
    """
    hypotheses, references = listed("hypotheses", hypotheses), listed("references", references)
    references = [list(r) if isinstance(r, list | tuple) else [r] for r in references]
    if len(hypotheses) != len(references):
        raise UserError(
            f"each hypothesis needs its references, got {len(hypotheses)} hypotheses "
            f"and references for {len(references)}"
        )
    if not hypotheses:
        raise UserError("there is nothing to score: no hypothesis came")
    for place, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True)):
        if not several:
            raise UserError(f"hypothesis {place} has no reference")
        for text in (hypothesis, *several):
            if not isinstance(text, str):
                raise ValueError(f"segment {place} must be of str, got {type(text).__name__}")
    return hypotheses, references


def flatten(hypotheses, references):
    """All texts in a row, each hypothesis before its references.

    Returns
    -------
    texts : list of T str
    segment : int64 (T,), whose each is
    side : int64 (T,), 0 for a hypothesis, r for its r-th reference
    """
    texts = [t for h, several in zip(hypotheses, references, strict=True) for t in (h, *several)]
    sizes = np.array([1 + len(several) for several in references])
    segment = np.repeat(np.arange(len(sizes)), sizes)
    side = np.arange(len(texts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return texts, segment, side


def chunks(hypotheses, references, progress=None):
    """Cut many segments into runs of about a million characters, so that memory is bounded.

    Yields (hypotheses, references) of consecutive segments; progress(done, total) counts segments.
    """
    start, size, total = 0, 0, len(hypotheses)
    for stop, (h, several) in enumerate(zip(hypotheses, references, strict=True), start=1):
        size += len(h) + sum(map(len, several))
        if size >= CHUNK or stop == total:
            yield hypotheses[start:stop], references[start:stop]
            start, size = stop, 0
            if progress is not None:
                progress(stop, total)


def ratio(part, whole):
    """part / whole, element by element; 0 where there is nothing to have a part of."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def references_named(references):
    """How many references a segment has, "var" where that differs: as signatures say it."""
    numbers = {len(several) for several in references}
    return str(numbers.pop()) if len(numbers) == 1 else "var"


def signature(**parts):
    """`key:value|key:value|...|version:minillm-...`, sacrebleu's form with a version of our own."""
    from minillm import __version__

    words = {True: "yes", False: "no"}
    pairs = [f"{key}:{words.get(v, v) if isinstance(v, bool) else v}" for key, v in parts.items()]
    return "|".join([*pairs, f"version:minillm-{__version__}"])

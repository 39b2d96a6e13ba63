"""Translation edit rate (Snover, Dorr, Schwartz, Micciulla & Makhoul 2006, "A Study of Translation
Edit Rate with Targeted Human Annotation", AMTA), as Tercom and sacrebleu search for it.

The words are in ter_tokenize.py, the edit distance without shifts in edit_distance.py.
"""

import dataclasses

import numpy as np

from minillm.metrics.edit_distance import EditDistance, alignment, beam_rows
from minillm.metrics.segments import check_segments, references_named, signature
from minillm.metrics.ter_tokenize import ter_tokenize

__all__ = ["TER", "edits", "ter", "ter_from_statistics", "ter_statistics"]

# Tercom's limits, and sacrebleu's on candidates, which stop a search of the best shifts
SHIFT_WORDS = 10
SHIFT_DISTANCE = 50
CANDIDATES = 1000


@dataclasses.dataclass(frozen=True)
class TER:
    """How many edits the hypotheses are from their references.

    Attributes
    ----------
    score : float, 100 times the edits for each word of the references; above 100 is possible
    edits : int, words inserted, deleted, replaced, and runs of words shifted
    reference_length : float, words, the mean of a segment's references
    signature : str, what the score was made with
    """

    score: float
    edits: int
    reference_length: float
    signature: str = ""

    def __str__(self):
        return f"TER|{self.signature} = {self.score:.2f}"


def ter(
    hypotheses,
    references,
    *,
    normalized=False,
    no_punct=False,
    asian_support=False,
    case_sensitive=False,
    progress=None,
):
    """The edits that turn hypotheses into their references, for each word of those.

    Equation: TER = 100 sum(edits to the nearest reference) / sum(mean reference length)

    An edit inserts, deletes or replaces a word, or moves a run of words. The shifts are searched
    greedily: the best one goes first, as long as it saves edits.

    Parameters
    ----------
    hypotheses : S str
    references : S entries, each a str or several
    normalized, no_punct, asian_support, case_sensitive : see `ter_tokenize`
    progress : function of (segments done, segments)

    Raises
    ------
    ValueError
        for what is no text.
    UserError
        for other numbers of hypotheses and references.
    """
    hypotheses, references = check_segments(hypotheses, references)
    settings = {
        "normalized": normalized,
        "no_punct": no_punct,
        "asian_support": asian_support,
        "case_sensitive": case_sensitive,
    }
    statistics = ter_statistics(hypotheses, references, progress=progress, **settings)
    words = signature(
        nrefs=references_named(references),
        case="mixed" if case_sensitive else "lc",
        tok="tercom",
        norm=normalized,
        punct=not no_punct,
        asian=asian_support,
    )
    return dataclasses.replace(ter_from_statistics(statistics.sum(0)), signature=words)


def ter_statistics(hypotheses, references, *, progress=None, **settings):
    """What TER sums over segments: edits to the nearest reference, mean reference length, (S, 2).

    Parameters and errors as for `ter`.
    """
    hypotheses, references = check_segments(hypotheses, references)
    rows = []
    for hypothesis, several in zip(hypotheses, references, strict=True):
        words = ter_tokenize(hypothesis, **settings)
        theirs = [_reference_words(reference, **settings) for reference in several]
        fewest = min(edits(words, reference) for reference in theirs)
        rows.append((fewest, sum(map(len, theirs)) / len(theirs)))
        if progress is not None:
            progress(len(rows), len(hypotheses))
    return np.array(rows, np.float64)


def _reference_words(reference, *, normalized=False, **settings):
    """The words of a reference, which sacrebleu normalises twice, and a hypothesis once.

    A second time changes little (`..5`, `&amp;lt;`), but it does: scores would not be equal.
    """
    words = ter_tokenize(reference, normalized=normalized, **settings)
    return ter_tokenize(" ".join(words), normalized=True, **settings) if normalized else words


def ter_from_statistics(statistics):
    """TER from the statistics of a segment, or their sum over some, (2,)."""
    count, length = (float(x) for x in statistics)
    score = count / length if length else float(count > 0)
    return TER(100 * score, int(count), length)


def edits(hypothesis, reference, *, simple=False):
    """The edits that turn one list of words into another, shifts among them.

    `simple` takes every distance from the plain table: the specification of the fast search.
    """
    if not reference:
        return len(hypothesis)
    shifts, tried = 0, 0
    while True:
        before, gain, shifted, tried = _best_shift(hypothesis, reference, tried, simple)
        if gain <= 0 or tried >= CANDIDATES:
            return shifts + before
        hypothesis, shifts = shifted, shifts + 1


def _best_shift(hypothesis, reference, tried, simple):
    """The shift that saves most edits: (edits without it, how many it saves, words after it,
    candidates tried by now). Of equally good ones the longest run wins, then the first, then the
    one that goes nearest to the start.
    """
    rows = beam_rows(hypothesis, reference)
    before = rows[-1][-1]
    if before == 0:
        return before, 0, hypothesis, tried
    place, reference_wrong, hypothesis_wrong = alignment(hypothesis, reference, rows)
    distance = EditDistance(reference)
    states = distance.states(hypothesis)
    best, best_words = (0, 0, 0, 0), hypothesis  # a shift that saves nothing is none
    for start, target, length in _equal_runs(hypothesis, reference):
        if not any(hypothesis_wrong[start : start + length]):
            continue
        if not any(reference_wrong[target : target + length]):
            continue
        if start <= place[target] < start + length:
            continue
        for index in _insertions(place, target, length):
            tried += 1
            words = _shift(hypothesis, start, length, index)
            same = min(start, index)  # words at the beginning that stay
            rank = (length, -start, -index)
            gain = 0
            if not simple:
                gain = before - distance.states(words, states[: same + 1])[-1][-1]
                if (gain, *rank) <= best:
                    continue  # the beam can only find more edits
            if simple or not distance.in_band(words, before - gain):
                gain = before - beam_rows(words, reference, rows[: same + 1])[-1][-1]
            if (gain, *rank) > best:
                best, best_words = (gain, *rank), words
        if tried >= CANDIDATES:
            break
    return before, best[0], best_words, tried


def _equal_runs(hypothesis, reference):
    """(start in the hypothesis, start in the reference, length) of runs of words in both."""
    places: dict[str, list[int]] = {}
    for target, word in enumerate(reference):
        places.setdefault(word, []).append(target)
    for start, word in enumerate(hypothesis):
        for target in places.get(word, ()):
            if abs(target - start) > SHIFT_DISTANCE:
                continue
            longest = min(SHIFT_WORDS, len(hypothesis) - start, len(reference) - target)
            for length in range(1, longest + 1):
                if hypothesis[start + length - 1] != reference[target + length - 1]:
                    break
                yield start, target, length


def _insertions(place, target, length):
    """Where a run may go so that it comes to stand beside its like in the reference."""
    last = None
    for offset in range(target - 1, target + length):
        index = 0 if offset < 0 else place[offset] + 1
        if index != last:
            yield index
        last = index


def _shift(words, start, length, index):
    """The words with the run from `start` on moved in front of word `index`."""
    rest = words[:start] + words[start + length :]
    if index > start + length:
        index -= length  # an index within the run itself stands for as many words after its start
    return rest[:index] + words[start : start + length] + rest[index:]

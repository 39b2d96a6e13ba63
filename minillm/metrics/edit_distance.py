"""The number of words to insert, delete or replace that turns one text into another.

`beam_rows` is the plain table, of which only a band about the diagonal is looked at, as Tercom and
sacrebleu do. `EditDistance` gives the same number from a row in the bits of two integers (Myers
1999, "A fast bit-vector algorithm for approximate string matching based on dynamic programming",
J. ACM 46(3), figure 8, for the distance of whole texts after Hyyrö 2003, section 3).
"""

import math

__all__ = ["BEAM", "EditDistance", "alignment", "beam_distance", "beam_rows"]

BEAM = 25  # words on either side of the diagonal


def beam_rows(hypothesis, reference, rows=()):
    """Costs of turning the first i words of a hypothesis into the first j of a reference.

    Parameters
    ----------
    hypothesis, reference : lists of words
    rows : the first rows, where they are known

    Returns
    -------
    rows : list of len(hypothesis) + 1 lists of len(reference) + 1; infinite outside the band
    """
    size, n = len(hypothesis), len(reference)
    slope = n / size if size else 1
    beam = BEAM if slope / 2 <= BEAM else math.ceil(slope / 2 + BEAM)
    rows = list(rows) or [list(range(n + 1))]
    for i in range(len(rows), size + 1):
        word, above, row = hypothesis[i - 1], rows[-1], [math.inf] * (n + 1)
        centre = math.floor(i * slope)
        stop = n + 1 if i == size else min(n + 1, centre + beam)
        for j in range(max(0, centre - beam), stop):
            if j == 0:
                row[0] = above[0] + 1
            else:
                replaced = above[j - 1] + (word != reference[j - 1])
                row[j] = min(replaced, above[j] + 1, row[j - 1] + 1)
        rows.append(row)
    return rows


def beam_distance(hypothesis, reference):
    """The edits, as the table has them: the specification of `EditDistance`."""
    return beam_rows(hypothesis, reference)[-1][-1]


def alignment(hypothesis, reference, rows):
    """Where the words of a reference stand in a hypothesis, by one of the cheapest ways.

    Of ways that cost the same it goes, from the end on, by a match or replacement, else by a
    deletion, else by an insertion.

    Returns
    -------
    place : list, for each word of the reference that of the hypothesis beside it, or the last one
        before it; -1 for none
    reference_wrong, hypothesis_wrong : lists of bool, which words are not matched
    """
    i, j = len(hypothesis), len(reference)
    place, reference_wrong, hypothesis_wrong = [0] * j, [True] * j, [True] * i
    while i or j:
        cost = rows[i][j]
        if j:
            place[j - 1] = i - 1
        differ = not (i and j) or hypothesis[i - 1] != reference[j - 1]
        if i and j and cost == rows[i - 1][j - 1] + differ:
            reference_wrong[j - 1] = hypothesis_wrong[i - 1] = differ
            i, j = i - 1, j - 1
        elif i and cost == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return place, reference_wrong, hypothesis_wrong


class EditDistance:
    """`beam_distance` to one reference of at least one word, fast where first words are shared.

    Bit j of `up` (`down`) says that the cost at reference word j is one more (less) than at the one
    before it, so that a row takes a few operations on integers, whatever its length.
    """

    def __init__(self, reference):
        self.reference = reference
        self.full = (1 << len(reference)) - 1
        self.masks: dict = {}  # word -> the bits of the places where it stands
        for j, word in enumerate(reference):
            self.masks[word] = self.masks.get(word, 0) | 1 << j

    def states(self, hypothesis, states=()):
        """(up, down, cost of the whole reference) after each first part of a hypothesis."""
        states = list(states) or [(self.full, 0, len(self.reference))]
        up, down, cost = states[-1]
        full, last = self.full, self.full + 1 >> 1
        for word in hypothesis[len(states) - 1 :]:
            equal = self.masks.get(word, 0)
            vertical = equal | down
            horizontal = (((equal & up) + up) ^ up) | equal
            more = down | ~(horizontal | up)
            less = up & horizontal
            cost += bool(more & last) - bool(less & last)
            more = more << 1 | 1
            up = (less << 1 | ~(vertical | more)) & full
            down = more & vertical & full
            states.append((up, down, cost))
        return states

    def in_band(self, hypothesis, cost):
        """Whether a cheapest way of this cost cannot leave the band, so that the beam finds it."""
        n = len(self.reference)
        return n < BEAM or cost + abs(n - len(hypothesis)) + 1 < BEAM

"""The similarity report: for a person to read on, with the two sources side by side."""

import csv
import io
from pathlib import Path

from minillm.course.plain import clean, fenced, inline, one_line
from minillm.course.similarity import REFERENCE, passages
from minillm.course.table import neutral
from minillm.files import write_text

__all__ = ["similarity_csv", "similarity_page", "write_similarity"]

MOST_PAIRS = 15  # shown line by line
MOST_ROWS = 25  # of a table
COLUMN = 62  # characters of a source's line, beside another's
MOST_LINES = 24  # of a passage

PREFACE = (
    "These numbers are similarity, and no verdict. Two people who know a formula often write "
    "a short function in the same way. What says more is an unusual pair beside the usual one, a "
    "passage that few others hold, and a conversation. Renamed variables, reordered functions, "
    "comments, layout and statements without effect do not hide a passage; what the starter gave "
    "is left out."
)


def write_similarity(out, found):
    """Write similarity.md and similarity.csv of a Class into the folder `out`."""
    write_text(Path(out) / "similarity.md", similarity_page(found))
    write_text(Path(out) / "similarity.csv", similarity_csv(found))


def similarity_page(found):
    """The text of similarity.md."""
    parts = ["# Similarity of submissions", PREFACE, _usual(found)]
    parts += ["## With one another", _table(found.pairs) or "There is no pair to compare."]
    parts += ["## With the reference, which is public"]
    parts += [_table(found.with_reference) or "There is nothing to compare."]
    above = [p for p in (*found.pairs, *found.with_reference) if p.containment >= found.bar]
    if above:
        parts.append("## Side by side")
        if len(above) > MOST_PAIRS:
            text = (
                f"The {MOST_PAIRS} most alike of {len(above)}; all numbers are in similarity.csv."
            )
            parts.append(text)
    for pair in above[:MOST_PAIRS]:
        parts += _side_by_side(found, pair)
    notes = [(student, note) for student, work in found.works.items() for note in work.notes]
    notes += [(student, "too little of their own to compare") for student in found.too_short]
    if notes:
        parts.append("## Not compared")
        parts.append("\n".join(f"- {inline(who)}: {inline(text)}" for who, text in notes))
    return "\n\n".join(parts) + "\n"


def similarity_csv(found):
    """The text of similarity.csv: a row a pair."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["first", "second", "containment", "jaccard", "shared", "uncommon", "median"])
    for pair in (*found.pairs, *found.with_reference):
        names = (neutral(one_line(name)) for name in (pair.first, pair.second))
        measures = (f"{x:.3f}" for x in (pair.containment, pair.jaccard))
        writer.writerow([*names, *measures, pair.shared, pair.uncommon, f"{found.median:.3f}"])
    return buffer.getvalue()


def _usual(found):
    if not found.pairs:
        return "With fewer than two submissions there is no usual pair to compare with."
    count = len(found.pairs)
    above = sum(pair.containment >= found.bar for pair in found.pairs)
    return (
        f"**The usual pair here shares {100 * found.median:.0f}%** (containment of the pair in the "
        f"middle of {count}). {above} of {count} pairs share {100 * found.bar:.0f}% or more. "
        "Where the usual pair is near the highest, the task leaves little room, and the numbers "
        "say little."
    )


def _table(pairs):
    if not pairs:
        return ""
    rows = ["| | | Containment | Jaccard | Shared | Uncommon |", "|---|---|-:|-:|-:|-:|"]
    for pair in pairs[:MOST_ROWS]:
        rows.append(
            f"| {inline(pair.first, 60)} | {inline(pair.second, 60)} "
            f"| {100 * pair.containment:.0f}% | {100 * pair.jaccard:.0f}% "
            f"| {pair.shared} | {pair.uncommon} |"
        )
    if len(pairs) > MOST_ROWS:
        rows.append(f"\n{len(pairs) - MOST_ROWS} more are in similarity.csv.")
    return "\n".join(rows)


def _side_by_side(found, pair):
    one, other = found.works[pair.first], found.works[pair.second]
    parts = [f"### {inline(pair.first, 60)} and {inline(pair.second, 60)}"]
    size = sum(student != REFERENCE for student in found.works)
    for file, first, last, file2, first2, last2, digests in passages(one, other):
        parts.append(
            f"{inline(file)} {first}–{last} beside {inline(file2)} {first2}–{last2}; "
            f"{found.holders(digests)} of {size} submissions hold all of it"
        )
        left = _lines(one.files[file], first, last)
        right = _lines(other.files[file2], first2, last2)
        rows = max(len(left), len(right))
        left += [""] * (rows - len(left))
        right += [""] * (rows - len(right))
        text = "\n".join(f"{a:<{COLUMN}} | {b}" for a, b in zip(left, right, strict=True))
        parts.append(fenced(text))
    return parts


def _lines(text, first, last):
    """Numbered lines of a source, each cut to a column."""
    rows = text.split("\n")[first - 1 : last]
    shown = [
        f"{first + i:>4} {clean(row).expandtabs(4)}"[:COLUMN]
        for i, row in enumerate(rows[:MOST_LINES])
    ]
    return shown + ([f"     [{len(rows) - MOST_LINES} more]"] if len(rows) > MOST_LINES else [])

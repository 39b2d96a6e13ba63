"""The course's pages that follow from its assignments.

    python docs/tools/course.py      # the tables in docs/course/index.md anew

Sphinx calls `write`: docs/course/generated/ gets a page an assignment, with its solutions. It is
not kept in the repository, so that no page differs from its manifest.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from minillm.course import manifest, walkthrough  # noqa: E402

__all__ = ["index", "overview", "write"]

# what goes with an assignment, besides what its texts name and its parts' derivations
BESIDE = {
    "hw1": ["notebooks/01_counting.ipynb", "docs/models/ngram.md"],
    "hw2": ["notebooks/02_tokens.ipynb", "docs/tokenizers.md"],
    "hw3": ["notebooks/03_backpropagation.ipynb", "notebooks/04_checking_gradients.ipynb"],
    "hw4": [
        "notebooks/06_recurrence.ipynb",
        "notebooks/07_lstm_and_gru.ipynb",
        "docs/models/recurrent.md",
    ],
    "hw5": [
        "notebooks/08_attention.ipynb",
        "notebooks/09_transformer_block.ipynb",
        "notebooks/10_training_a_gpt.ipynb",
        "docs/models/gpt.md",
    ],
    "hw6": ["notebooks/13_flash_attention.ipynb", "docs/derivations/flash_attention.md"],
    "hw7": ["notebooks/12_matmul_on_a_gpu.ipynb", "docs/emulator.md", "docs/kernels.md"],
    "hw8": ["notebooks/04_checking_gradients.ipynb", "docs/gradcheck.md"],
}

BEGIN, END = "<!-- from the assignments -->\n", "<!-- to here -->\n"


def write(docs):
    """Write docs/course/generated/; files that would not change keep their date."""
    folder = docs / "course" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for name in manifest.names():
        assignment = manifest.load(name)
        pages[f"{name}.md"] = walkthrough.walkthrough(assignment, ROOT, wrong=_wrong(name))
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def overview():
    """The assignments as a table, then the goals of each and what goes with it."""
    rows = ["| | title | hours | points by checks | written | tasks |", "|---|---|--:|--:|--:|--:|"]
    told = []
    for name in manifest.names():
        assignment = manifest.load(name)
        points, written = walkthrough.points_of(assignment, walkthrough.checks_of(assignment))
        rows.append(
            f"| [{name}](generated/{name}.md) | {assignment.title} | {assignment.hours:g} "
            f"| {points:g} | {written:g} | {len(assignment.tasks)} |"
        )
        notebooks, pages = walkthrough.goes_with(assignment, ROOT, BESIDE.get(name, ()))
        links = [f"[{walkthrough.page_name(p)}](../../{p})" for p in notebooks]
        links += [f"[{walkthrough.page_name(p)}](../{p.removeprefix('docs/')})" for p in pages]
        goals = "\n".join(f"- {goal}" for goal in assignment.goals)
        told.append(f"### {name}: {assignment.title}\n\n{goals}\n\nGoes with: {', '.join(links)}.")
    return "\n".join(rows) + "\n\n## What each is for\n\n" + "\n\n".join(told) + "\n"


def index(text):
    """docs/course/index.md with the present overview between its two marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError("docs/course/index.md has lost its marks")
    return f"{head}{BEGIN}\n{overview()}\n{END}{tail}"


def _wrong(name):
    """{task: {check: names of wrong solutions that fail it first}}, from the tests."""
    try:
        table = importlib.import_module(f"tests.course.wrong.{name}").WRONG
    except ImportError:
        return {}
    found = {}
    for task, entries in table.items():
        for entry in entries:
            found.setdefault(task, {}).setdefault(entry.check, []).append(entry.name)
    return found


if __name__ == "__main__":
    page = ROOT / "docs" / "course" / "index.md"
    page.write_text(index(page.read_text(encoding="utf-8")), encoding="utf-8")

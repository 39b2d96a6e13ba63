"""Notebooks from their sources: NN_name.py in the percent format, NN_name.ipynb beside it.

    python notebooks/tools/percent.py            write the notebooks whose source has changed
    python notebooks/tools/percent.py --check    write nothing; exit with 1 where one is out of date

The .ipynb holds no outputs, and a cell's id is a hash of what is in it: the same source gives the
same bytes, and a changed cell changes nothing else.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[1]
SOLUTIONS = NOTEBOOKS.parent / "tests" / "notebooks" / "solutions"

# What every notebook has, in this order (an experiment may come more than once).
HEADINGS = (
    "The mathematics",
    "The code",
    "An experiment",
    "Exercises",
    "Where to go next",
)
TAGS = {"picture", "timing", "exercise", "check", "raises-exception"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class BadSource(Exception):
    """A source that is no notebook of this course: says the file and what is wrong with it."""


def sources(names=()):
    """The sources in reading order; `names` are numbers ("07"), or beginnings of file names."""
    every = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    for name in names:
        if not any(_is_named(path, name) for path in every):
            there = ", ".join(path.stem for path in every)
            raise BadSource(f"no notebook {name!r}; there are: {there}")
    return [path for path in every if not names or any(_is_named(path, name) for name in names)]


def read(path):
    """The notebook of a source, checked against what all of them promise.

    Raises
    ------
    BadSource
    """
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    seen = {}
    for cell in notebook.cells:
        key = f"{cell.cell_type}\n{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell.id = hashlib.sha256(f"{key}\n{seen[key]}".encode()).hexdigest()[:12]
        cell.metadata.pop("lines_to_next_cell", None)  # of the source's layout alone
        if "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for problem in problems(notebook):
        raise BadSource(f"{path.name}: {problem}")
    nbformat.validate(notebook)
    return notebook


def problems(notebook):
    """What a notebook lacks of that which all of them have."""
    cells = notebook.cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    if not cells or not re.match(r"# \d+\. \S", cells[0].source):
        yield "the first cell must begin with '# N. Title'"
    found = re.findall(r"^## (.+)", prose, re.MULTILINE)
    kinds = [next((h for h in HEADINGS if name.startswith(h)), name) for name in found]
    if list(dict.fromkeys(kinds)) != list(HEADINGS):
        yield f"its headings must begin with {', '.join(HEADINGS)}, got {', '.join(found)}"
    if sum("picture" in tags(cell) for cell in cells) < 3:
        yield "it must have at least three cells tagged 'picture'"
    if lost := re.search(r"^.*\S.*\n +\$\$.*", prose, re.MULTILINE):
        yield f"a formula in a list needs an empty line before it: {lost[0]!r}"
    for cell in cells:
        if unknown := tags(cell) - TAGS:
            yield f"unknown tag {', '.join(unknown)}"
        if "picture" in tags(cell) and len(cell.metadata.get("alt", "")) < 20:
            yield f"a picture without an alt text that says what it shows: {cell.source[:60]!r}"
        if "check" in tags(cell) and "raises-exception" not in tags(cell):
            yield f"a check that is not tagged 'raises-exception': {cell.source[:60]!r}"
    posed = [name for name, kind in exercises(notebook) if kind == "exercise"]
    checked = [name for name, kind in exercises(notebook) if kind == "check"]
    if not posed or posed != checked or len(set(posed)) < len(posed):
        yield f"each exercise must be followed by its check, got {posed} and {checked}"


def tags(cell):
    return set(cell.metadata.get("tags", ()))


def exercises(notebook):
    """(name, "exercise" or "check") of all cells that are either."""
    for cell in notebook.cells:
        for kind in tags(cell) & {"exercise", "check"}:
            yield cell.metadata.get("exercise"), kind


def solutions(path):
    """{exercise: {"solution": source, "wrong": [sources]}} of a notebook, from the tests' folder.

    Raises
    ------
    BadSource
        if an exercise has no solution, or no wrong one.
    """
    file = SOLUTIONS / path.name
    if not file.exists():
        raise BadSource(f"{path.name} has no file of solutions, tests/notebooks/solutions/")
    found = {}
    for cell in jupytext.reads(file.read_text(encoding="utf-8"), fmt="py:percent").cells:
        for kind in ("solution", "wrong"):
            if kind in cell.metadata:
                entry = found.setdefault(cell.metadata[kind], {"solution": None, "wrong": []})
                if kind == "wrong":
                    entry["wrong"].append(cell.source)
                else:
                    entry["solution"] = cell.source
    for name, entry in found.items():
        if entry["solution"] is None or not entry["wrong"]:
            raise BadSource(f"{file.name}: {name!r} needs a solution and a wrong one")
    return found


def text_of(notebook):
    """The .ipynb's text."""
    return nbformat.writes(notebook, version=4, indent=1) + "\n"


def _is_named(path, name):
    return path.stem == name or path.stem.startswith(f"{name.zfill(2)}_")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a drift")
    args = parser.parse_args(argv)
    stale = []
    try:
        for path in sources():
            text, target = text_of(read(path)), path.with_suffix(".ipynb")
            if target.exists() and target.read_text(encoding="utf-8") == text:
                continue
            stale.append(target.name)
            if not args.check:
                target.write_text(text, encoding="utf-8")
        left = {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {p.stem for p in sources()}
        for name in sorted(left):
            raise BadSource(f"{name}.ipynb has no source {name}.py")
    except BadSource as error:
        print(f"percent.py: {error}", file=sys.stderr)
        return 1
    for name in stale:
        print(f"{name} {'is out of date' if args.check else 'written'}")
    if args.check and stale:
        print("run: make notebooks-sync", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

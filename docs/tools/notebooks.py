"""Copy the executed notebooks into docs/notebooks, where Sphinx reads them.

    python docs/tools/notebooks.py build/notebooks docs/notebooks

A notebook without a copy that was executed from its present source is an error: no page shows what
another version of the code gave. Links into the repository become links of the site.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "tools"))

from execute import is_stale  # noqa: E402
from percent import sources  # noqa: E402

LONG = 12  # lines


def copy(executed, out):
    out.mkdir(parents=True, exist_ok=True)
    kept = {"index.md"}
    titles = []
    for source in sources():
        path = executed / f"{source.stem}.ipynb"
        if is_stale(source, executed):
            raise SystemExit(f"notebooks.py: {source.name} has not been executed: make notebooks")
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = relink("".join(cell["source"]))
            elif is_drawing(cell):
                cell["metadata"]["tags"].append("hide-input")
        titles.append(source.stem)
        kept.add(path.name)
        write(out / path.name, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    write(out / "index.md", index(titles))
    for path in out.iterdir():
        if path.name not in kept:
            path.unlink()


def is_drawing(cell):
    """Whether a cell's code is long and for the picture alone: the site shows it when asked."""
    lines = "".join(cell["source"]).count("\n")
    return "picture" in cell["metadata"].get("tags", ()) and lines > LONG


def relink(text):
    """Links as they are from docs/notebooks: docs are one folder up, the rest of the tree two."""
    return re.sub(
        r"\]\(\.\./(docs/)?(?=[\w.])", lambda match: "](../" if match[1] else "](../../", text
    )


def index(names):
    listed = "\n".join(names)
    return (
        "# The course\n\nFrom a table of counts to a flash-attention kernel, in reading order. "
        "Each notebook runs on a laptop in about a minute, without a GPU and without a network: "
        "`make lab` opens them in JupyterLab. What stands here are executed copies.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )


def write(path, text):
    """Only what has changed: Sphinx reads a page again when its date does."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: notebooks.py EXECUTED OUT")
    copy(Path(sys.argv[1]), Path(sys.argv[2]))

"""The pages of the API reference: a page a room, an entry for each public name, from docstrings."""

import ast
from pathlib import Path

__all__ = ["write"]

PACKAGE = Path(__file__).resolve().parents[2] / "minillm"

# room -> (its title, what stands above it)
ROOMS = {
    "ops": ("Ops", "One op a file: a forward and its backward. How they are made: [](../ops.md)."),
    "models": ("Models", "One model a file, n-grams an idea a file."),
    "tokenizers": ("Tokenizers", "Text to ids and back. The guide: [](../tokenizers.md)."),
    "data": ("Data", "Corpora, splits, batches."),
    "optim": ("Optimizers", "Update rules, schedules, clipping."),
    "training": ("Training", "The loop, its checkpoints, its log. The guide: [](../training.md)."),
    "generation": ("Generation", "Sampling and beam search."),
    "metrics": ("Metrics", "What the numbers mean: [](../metrics.md)."),
    "gradcheck": ("Gradient checker", "The five-minute guide: [](../gradcheck.md)."),
    "course": (
        "Assignments",
        "Released, checked and graded. How to run the course: [](../course/running.md).",
    ),
    "viz": ("Pictures", "Figures to print, and views to touch."),
}


def write(docs):
    """Write docs/api/; files that would not change keep their date, so that builds stay short."""
    folder = docs / "api"
    folder.mkdir(exist_ok=True)
    pages = {"index": _index()}
    pages |= {room: _page(room, *about) for room, about in ROOMS.items()}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _index():
    rooms = "\n".join(ROOMS)
    return (
        "# API reference\n\nEvery public function and class, from its docstring. Shapes stand "
        "where other references have types: `(..., C)` is an array whose last axis has C channels. "
        "`[source]` leads to the code.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{rooms}\n```\n"
    )


def _page(room, title, about):
    parts = [f"# {title}\n\n{about}\n"]
    for path in sorted((PACKAGE / room).glob("*.py")):
        if not path.stem.startswith("_") and _public(path):
            module = f"minillm.{room}.{path.stem}"
            derivation = ""
            if room == "ops":
                derivation = f"[How its gradient is derived](../derivations/{path.stem}.md)\n\n"
            parts.append(
                f"## {path.stem}\n\n{derivation}"
                f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
            )
    return "\n".join(parts)


def _public(path):
    """Whether a file defines anything public that has a docstring; the file is not run for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(
        isinstance(node, kinds) and not node.name.startswith("_") and ast.get_docstring(node)
        for node in tree.body
    )

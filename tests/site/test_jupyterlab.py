"""Two notebooks opened as a learner does: in JupyterLab, in a browser, all cells run."""

import json

import pytest

from .conftest import ROOT, SHOTS

# two that are quick: one of counting, one with interactive views
NOTEBOOKS = ["03_backpropagation", "02_tokens"]

CELLS = """() => {
  const content = jupyterapp.shell.currentWidget.content;
  return content.model.cells.length && Array.from({length: content.model.cells.length}, (_, i) => {
    const cell = content.model.cells.get(i);
    return {
      type: cell.type,
      tags: cell.getMetadata("tags") || [],
      done: cell.type !== "code" || cell.executionCount !== null,
      outputs: cell.type === "code" ? cell.outputs.toJSON() : [],
    };
  });
}"""

# an error where none is meant ends the wait: the cells after it never run
UNMEANT = """cell => !cell.tags.includes("check") &&
  cell.outputs.some(output => output.output_type === "error")"""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_in_jupyterlab(browser, jupyterlab, name):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{jupyterlab}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=60_000,
    )
    # It goes on after an error where the cell is tagged so, as a check that is not yet done; but
    # the command returns at the first error.
    page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    over = f"() => {{const cells = ({CELLS})(); return cells.every(cell => cell.done) || "
    page.wait_for_function(f"{over}cells.some({UNMEANT})}}", timeout=240_000)
    cells = page.evaluate(CELLS)
    source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert len(cells) == len(source["cells"])
    code = [cell for cell in cells if cell["type"] == "code"]
    failed = [cell for cell in code if has_error(cell)]
    assert failed
    assert all("check" in cell["tags"] for cell in failed), [c["outputs"] for c in failed][:3]
    assert sum(is_picture(cell) for cell in code) >= 3
    first = next(i for i, cell in enumerate(cells) if is_picture(cell))
    page.evaluate(f"() => jupyterapp.shell.currentWidget.content.scrollToItem({first}, 'start')")
    page.wait_for_timeout(1000)
    page.screenshot(path=SHOTS / f"jupyterlab-{name}.png")
    page.close()


def has_error(cell):
    return any(out["output_type"] == "error" for out in cell["outputs"])


def is_picture(cell):
    return any(
        "image/png" in out.get("data", {}) or "<iframe" in str(out.get("data", {}).get("text/html"))
        for out in cell["outputs"]
    )

"""The pages that belong to something: a derivation to each op, a measurement to a recording."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OPS = sorted(p.stem for p in (ROOT / "minillm" / "ops").glob("*.py") if not p.stem.startswith("_"))
HEADINGS = ["What it computes", "Derivation", "In the code", "Check it"]


def test_every_op_has_a_derivation_and_no_page_stands_alone():
    pages = {path.stem for path in (DOCS / "derivations").glob("*.md")} - {"index"}
    assert pages == set(OPS)
    index = (DOCS / "derivations" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^(\w+)$", "".join(re.findall(r"```{toctree}(.*?)```", index, re.S)), re.M)
    assert sorted(listed) == OPS


@pytest.mark.parametrize("op", OPS)
def test_a_derivation_ends_in_the_lines_of_its_code(op):
    text = (DOCS / "derivations" / f"{op}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {op}\n")
    found = re.findall(r"^## (.+)", text, re.MULTILINE)
    assert [name for name in found if name in HEADINGS] == HEADINGS
    code = text.split("## In the code")[1].split("## Check it")[0]
    shown = re.findall(r"```{literalinclude} (\S+)\n:pyobject: (\w+)", code)
    for name in (op, f"{op}_backward"):
        assert (f"../../minillm/ops/{op}.py", name) in shown
    for path, name in shown:
        source = (DOCS / "derivations" / path).read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), (path, name)


def test_the_benchmarks_page_shows_what_was_recorded():
    command = [sys.executable, str(DOCS / "tools" / "benchmarks.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

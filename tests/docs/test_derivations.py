"""docs/derivations/: a page an op, with the op's own lines, whose code prints what it shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from minillm import ops
from tests.gradcheck.test_guide import FENCE, alike

FOLDER = Path(__file__).parents[2] / "docs" / "derivations"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
SECTIONS = ["What it computes", "Derivation", "In the code", "Check it"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_the_index_lists_every_op_once():
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    blocks = [body for kind, body in FENCE.findall(text) if kind == "{toctree}"]
    names = [line for body in blocks for line in body.splitlines() if re.fullmatch(r"\w+", line)]
    assert sorted(names) == sorted(ops.__all__)
    assert [page.stem for page in PAGES] == sorted(ops.__all__)


@each_page
def test_a_page_has_its_sections_and_the_lines_of_its_op(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    headings = re.findall(r"^## (.+)$", FENCE.sub("", text), re.MULTILINE)
    assert headings == SECTIONS
    source = f"../../minillm/ops/{page.stem}.py"
    included = re.findall(r"^```\{literalinclude\} (\S+)\n:pyobject: (\w+)$", text, re.MULTILINE)
    for name in (page.stem, f"{page.stem}_backward"):
        assert (source, name) in included, f"{page.name} does not include {name}"


@each_page
def test_the_code_of_a_page_prints_what_it_shows(page):
    names = {}
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    for (language, text), (following, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language != "python":
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(page), "exec"), names)
        expected = shown if following == "text" else ""
        assert alike(expected, out.getvalue()), f"shown:\n{expected}\nprinted:\n{out.getvalue()}"

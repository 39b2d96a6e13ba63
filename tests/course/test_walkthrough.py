"""The pages for instructors: the solution is the reference's own lines, nothing is left out."""

import re
import sys
from pathlib import Path

import pytest

from minillm.course.manifest import load, names, parse
from minillm.course.source import functions
from minillm.course.walkthrough import checks_of, points_of, walkthrough

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import course as tool  # noqa: E402

TAKEN_IN = re.compile(
    r"^```\{literalinclude\} (\S+)\n(?::pyobject: (\S+)|:language: cuda)\n```$", re.M
)


@pytest.fixture(scope="module", params=names())
def assignment(request):
    return load(request.param)


@pytest.fixture(scope="module")
def page(assignment):
    return walkthrough(assignment, ROOT, wrong=tool._wrong(assignment.name))


def test_every_function_asked_for_is_shown_from_its_own_file(assignment, page):
    shown = TAKEN_IN.findall(page)
    assert page.count("literalinclude") == len(shown)
    for path, name in shown:
        file = (ROOT / "docs/course/generated" / path).resolve()
        assert file.is_file(), path
        assert ROOT in file.parents
        if name:
            text = file.read_text(encoding="utf-8")
            assert name in functions(text) or f"class {name}" in text, (path, name)
    for task in assignment.tasks:
        for module, asked in task.functions.items():
            for name in asked:
                assert module.endswith(".cu") or name in {n for _, n in shown}, (module, name)


def test_a_page_tells_all_that_an_instructor_needs(assignment, page):
    for text in [*assignment.goals, *(h for task in assignment.tasks for h in task.hints)]:
        assert text in page
    for m in assignment.misconceptions:
        assert " ".join(m.truth.split()).replace("|", "\\|") in page.replace("\\\\|", "\\|")
    for question in assignment.written:
        assert question.question in page
    points, written = points_of(assignment, checks_of(assignment))
    assert f"{points:g} points by checks" in page
    assert not written or f", {written:g} written" in page


def test_every_check_of_the_page_has_its_points(assignment, page):
    for runs in checks_of(assignment).values():
        for run in runs:
            assert re.search(
                rf"^\| {re.escape(run.title)}[^|\n]* \| {run.points:g} \| ", page, re.M
            ), run.title


def test_every_wrong_solution_of_the_tests_is_told(assignment, page):
    for checks in tool._wrong(assignment.name).values():
        for examples in checks.values():
            for example in examples:
                assert example in page, example


def test_the_overview_is_the_manifests():
    text = (ROOT / "docs/course/index.md").read_text(encoding="utf-8")
    assert tool.index(text) == text, "docs/course/index.md: run python docs/tools/course.py"


def test_the_overview_follows_a_manifest(monkeypatch):
    hw3 = load("hw3")
    monkeypatch.setattr(tool.manifest, "load", lambda name: hw3)
    monkeypatch.setattr(tool.manifest, "names", lambda: ["hw3"])
    assert hw3.goals[0] in tool.overview()
    assert f"| {hw3.hours:g} |" in tool.overview()
    with pytest.raises(ValueError, match="marks"):
        tool.index("no marks here")


def test_what_is_named_becomes_a_link(tmp_path):
    table = {
        "title": "T", "version": "1.0", "hours": 1, "goals": ["g"],
        "introduction": "See docs/derivations/linear.md and notebooks/01_counting.ipynb.",
        "misconceptions": [{"belief": "a | b", "truth": "two\nlines"}],
        "task": [{"name": "linear", "title": "L", "parts": ["minillm.ops.linear"], "points": 20,
                  "prose": "x", "large": {"...": [100], "C_in": 1000, "C_out": 50}}],
    }  # fmt: skip
    (tmp_path / "changes.md").write_text("# t\n\n## 1.0\n\n- first\n", encoding="utf-8")
    page = walkthrough(parse("t", tmp_path, table), ROOT, wrong={"linear": {"dx": ["no W"]}})
    assert "[linear](../../../docs/derivations/linear.md)" in page
    assert "[01_counting](../../../notebooks/01_counting.ipynb)" in page
    assert "| a \\| b | two lines |" in page
    assert "by its cost. for one: no W |" in page
    assert "## Changes\n\n### 1.0\n\n- first" in page
    assert ":pyobject: linear_backward" in page


def test_a_mistake_to_find_is_shown_as_what_mends_it():
    hw8 = load("hw8")
    page = walkthrough(hw8, ROOT)
    bug = hw8.tasks[0].bugs[0]
    assert re.search(rf"^- +{re.escape(bug.wrong.splitlines()[-1].strip())}$", page, re.M)
    assert re.search(rf"^\+ +{re.escape(bug.right.splitlines()[-1].strip())}$", page, re.M)

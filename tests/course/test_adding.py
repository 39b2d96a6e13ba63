"""The twenty lines of docs/course/adding.md make an assignment, as the page says."""

import json
import re
from pathlib import Path

import pytest

from minillm.cli import run
from minillm.course.manifest import load
from minillm.course.modules import Modules
from minillm.course.release import release

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/course/adding.md").read_text(encoding="utf-8")
TOML = re.search(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the page's assignment, and its release."""
    folder = tmp_path_factory.mktemp("adding")
    (folder / "my-assignment").mkdir()
    (folder / "my-assignment" / "assignment.toml").write_text(TOML, encoding="utf-8")
    told = []
    assignment = load(str(folder / "my-assignment"))
    files = release(assignment, folder / "gated", progress=told.append)
    return folder, files, told


def typed(capsys, *words):
    return run(["course", *map(str, words)]), capsys.readouterr().out


def test_it_is_twenty_lines_for_an_op_that_no_assignment_asks_for(home):
    assert len(TOML.splitlines()) <= 20
    (task,) = load(str(home[0] / "my-assignment")).tasks
    others = (ROOT / "minillm/course/assignments").glob("*/assignment.toml")
    for path in others:
        assert task.parts[0] not in path.read_text(encoding="utf-8"), path


def test_what_release_tells_is_on_the_page(home):
    _, files, told = home
    for step in told:
        assert f"  proving: {step}\n" in PAGE
    assert f"handouts/gated: {', '.join(files)}\n" in PAGE


def test_a_starter_has_nothing_and_a_solution_all(home, capsys, monkeypatch):
    folder = home[0]
    monkeypatch.chdir(folder / "gated")  # not beside the manifest: the release brings its own
    code, out = typed(capsys, "check", folder / "gated")
    assert code == 1
    assert "0 of 20 points" in out
    solution = Modules(load(str(folder / "my-assignment"))).solution("swiglu")
    (folder / "gated" / "swiglu.py").write_text(solution, encoding="utf-8")
    code, out = typed(capsys, "check", folder / "gated")
    assert code == 0
    assert "20 of 20 points" in out


def test_it_is_graded_by_its_folder(home, capsys, monkeypatch, tmp_path):
    folder = home[0]
    monkeypatch.chdir(folder)
    solution = Modules(load("./my-assignment")).solution("swiglu")
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "swiglu.py").write_text(solution, encoding="utf-8")
    code, out = typed(
        capsys, "grade", tmp_path / "in", "--assignment", "./my-assignment",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, out
    table = json.loads((tmp_path / "out" / "ada" / "results.json").read_text(encoding="utf-8"))
    assert table["score"] == 20
    assert table["extra_data"]["assignment"] == "my-assignment"

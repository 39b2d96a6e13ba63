"""`minillm course` as instructors and students type it."""

import csv
import json
import subprocess
import sys

import pytest

from minillm.course import kinds, manifest
from minillm.course.modules import Modules


@pytest.fixture(scope="module")
def solutions():
    modules = Modules(manifest.load("hw3"))
    return {name: modules.solution(name[:-3]) for name in modules.handed_in}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    from minillm.cli import run

    folder = tmp_path_factory.mktemp("release") / "hw3"
    assert run(["course", "release", "hw3", "--to", str(folder)]) == 0
    return folder


def copied(folder, to, **changes):
    to.mkdir(parents=True)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    for name, text in changes.items():
        (to / f"{name}.py").write_text(text)
    return to


def test_the_list_names_every_assignment(minillm):
    lines = minillm("course", "list").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == manifest.names()
    assert "Backpropagation by hand" in lines[3]


@pytest.mark.parametrize("name", ["list", "release", "check", "grade", "bundle"])
def test_help_has_an_example(minillm, name):
    done = minillm("course", name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example:\n    minillm course {name}" in done.out


def test_a_starter_checks_as_not_implemented(minillm, released):
    done = minillm("course", "check", released)
    assert done.code == 1
    assert "0 of 30 checks hold" in done.out or "not implemented" in done.out
    assert "Traceback" not in done.out + done.err


def test_done_tasks_hold_and_only_what_ran_is_claimed(minillm, released, solutions, tmp_path):
    mine = copied(released, tmp_path / "mine", softmax=solutions["softmax.py"])
    done = minillm("course", "check", mine, "softmax", "--seed", 5)
    assert done.code == 0, done.out
    assert "did" in done.out
    assert "not run" in done.out
    assert minillm("course", "check", mine).code == 1


def test_the_self_check_runs_from_anywhere(released, solutions, tmp_path):
    mine = copied(released, tmp_path / "mine", softmax=solutions["softmax.py"])
    command = [sys.executable, str(mine / "check.py"), "softmax"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    inside = subprocess.run(
        [sys.executable, "check.py", "linear"],
        cwd=mine,
        capture_output=True,
        text=True,
        check=False,
    )
    assert inside.returncode == 1
    assert "not implemented" in inside.stdout


def test_a_release_writes_over_nothing_and_may_be_repeated(minillm, released, tmp_path):
    mine = copied(released, tmp_path / "mine")
    (mine / "linear.py").write_text("# my work\n")
    said = mistake_of(minillm("course", "release", "hw3", "--to", mine))
    assert "linear.py" in said
    assert (mine / "linear.py").read_text() == "# my work\n"
    again = copied(released, tmp_path / "again")
    (again / "README.md").unlink()
    assert minillm("course", "release", "hw3", "--to", again).code == 0
    assert (again / "README.md").read_bytes() == (released / "README.md").read_bytes()


def mistake_of(done):
    """The one line that a mistake ends in; what is proved is told before it."""
    assert done.code == 2, done
    line = done.err.splitlines()[-1]
    assert line.startswith("minillm: "), done.err
    assert "Traceback" not in done.err
    return line


def test_a_folder_of_submissions_is_graded(minillm, solutions, tmp_path):
    right, half, hostile = (dict(solutions) for _ in range(3))
    term = "        - dnormed.mean(-1, keepdims=True)\n"
    assert term in half["layer_norm.py"]
    half["layer_norm.py"] = half["layer_norm.py"].replace(term, "")
    half.pop("linear.py")
    hostile = dict.fromkeys(solutions, "import os\nos._exit(0)\n")
    for student, files in (("right", right), ("half", half), ("hostile", hostile)):
        (tmp_path / "in" / student).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "in" / student / name).write_text(text)
    out = tmp_path / "out"
    done = minillm("course", "grade", "in", "--out", "out", "--fail-under", 50, "--seed", 3)
    assert done.code == 1, done
    assert "below 50 %: hostile" in done.err
    assert "seed 3" in done.out
    assert "isolation: " in done.out
    rows = {
        row["student"]: row for row in csv.DictReader((out / "grades.csv").read_text().splitlines())
    }
    assert float(rows["right"]["percent"]) == 100
    assert float(rows["hostile"]["percent"]) == 0
    assert 50 < float(rows["half"]["percent"]) < 100
    told = json.loads((out / "hostile" / "results.json").read_text())
    assert told["score"] == 0
    assert "exit code 0" in json.dumps(told)
    text = (out / "half" / "feedback.md").read_text()
    assert "linear.py" in text
    assert "dnormed" in text or "missing" in text
    assert "half" in (out / "similarity.md").read_text()
    assert minillm("course", "grade", "in", "--out", "out", "--fail-under", 0).code == 0


def test_a_fault_of_ours_earns_nothing_and_is_told(minillm, solutions, tmp_path, monkeypatch):
    (tmp_path / "in" / "one").mkdir(parents=True)
    (tmp_path / "in" / "one" / "softmax.py").write_text(solutions["softmax.py"])

    def broken(*args):
        raise RuntimeError("no reference today")

    monkeypatch.setattr(kinds, "difference", broken)
    done = minillm("course", "grade", "in", "--out", "out", "--assignment", "hw3")
    assert done.code == 3, done
    assert "inconclusive, ours to fix: softmax" in done.err
    table = json.loads((tmp_path / "out" / "one" / "results.json").read_text())
    assert table["score"] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("course release hw33 --to x", "no assignment 'hw33'; there are: hw1"),
        ("course release hw3", "missing option"),
        ("course release hw3 --to x --student a --students b", "give one"),
        ("course release hw3 --to x --students none.txt", "none.txt cannot be read"),
        ("course check nothing", "no such folder"),
        ("course check .", "holds no release.json"),
        ("course grade nothing --out out", "nothing"),
        ("course grade . --out out", "which assignment"),
        ("course grade . --out out --assignment hw3", "."),
        ("course grade . --out out --assignment hw3 --tier best", "must be uid or same"),
        ("course chekc .", "did you mean check?"),
        ("course bundle hw33 --to x.zip", "no assignment 'hw33'"),
    ],
)
def test_a_mistake_is_one_line(minillm, line, says):
    assert says in mistake_of(minillm(*line.split()))


def test_an_unknown_task_and_a_damaged_release(minillm, released, tmp_path):
    mine = copied(released, tmp_path / "mine")
    assert "has no task 'layernorm'" in mistake_of(minillm("course", "check", mine, "layernorm"))
    (mine / "release.json").write_text("{")
    assert "is damaged" in mistake_of(minillm("course", "check", mine))

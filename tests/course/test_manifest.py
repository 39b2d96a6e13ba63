import copy
import tomllib
from pathlib import Path

import pytest

from minillm.course import manifest
from minillm.errors import UserError

GOOD = tomllib.loads(
    """
title = "T"
version = "1.0"
hours = 2
goals = ["g"]
introduction = "i"
[[task]]
name = "softmax"
title = "Softmax"
parts = ["minillm.ops.softmax"]
points = 10
prose = "p"
"""
)


def test_every_assignment_loads_and_says_what_the_course_needs():
    assert manifest.names() == [f"hw{n}" for n in range(1, 9)]
    for name in manifest.names():
        assignment = manifest.load(name)
        assert assignment.hours > 0
        assert assignment.goals
        assert assignment.misconceptions
        assert assignment.introduction
        assert assignment.written
        for question in assignment.written:
            assert sum(line["points"] for line in question.rubric) == question.points
        for task in assignment.tasks:
            assert task.prose
            assert 2 <= len(task.hints) <= 6
        assert (assignment.folder / "changes.md").read_text().startswith(f"# {name}\n")
        assert f"## {assignment.version}" in (assignment.folder / "changes.md").read_text()


def test_a_small_manifest_is_enough():
    assignment = manifest.parse("own", Path("own"), GOOD)
    assert assignment.task("softmax").functions == {"minillm.ops.softmax": ()}
    with pytest.raises(UserError, match="no task 'soft'; it has: softmax"):
        assignment.task("soft")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("title"), "title is missing"),
        (lambda t: t.update(hours="2"), "hours must be a number, got '2'"),
        (lambda t: t.update(hours=True), "hours must be a number, got True"),
        (lambda t: t.update(tilte="x"), "unknown entry 'tilte'"),
        (lambda t: t["task"][0].update(part=[]), "task softmax: unknown entry 'part'"),
        (lambda t: t.update(task=[]), "task must be at least one task"),
        (lambda t: t["task"].append(t["task"][0]), "all different"),
        (lambda t: t["task"][0].pop("points"), "points for an op, or checks"),
        (lambda t: t.update(handout={"omits": {}}), "handout must be a table of imports"),
        (lambda t: t.update(variants={"soft": {}}), "variants must be"),
        (
            lambda t: t["task"][0].update(check=[{"kind": "forward", "points": 0}]),
            "points must be above 0",
        ),
        (
            lambda t: t["task"][0].update(
                check=[{"kind": "forward", "points": 1, "visibility": "seen"}]
            ),
            "visibility must be visible or",
        ),
    ],
)
def test_a_mistake_in_a_manifest_is_named(change, message):
    table = copy.deepcopy(GOOD)
    change(table)
    with pytest.raises(UserError, match=message):
        manifest.parse("own", Path("own"), table)


def test_an_unknown_assignment_and_a_broken_file(tmp_path):
    with pytest.raises(UserError, match=r"no assignment 'hw99'; there are: hw1, hw2"):
        manifest.load("hw99")
    (tmp_path / "assignment.toml").write_text("title = ")
    with pytest.raises(UserError, match=r"assignment\.toml: "):
        manifest.load(str(tmp_path))

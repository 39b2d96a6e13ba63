"""Every assignment: it can be released, and each of its checks can fail."""

import importlib

import pytest

from minillm.course import manifest
from minillm.course.release import release
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from tests.course.wrong import edited

NAMES = manifest.names()
ELSEWHERE = ("hw6", "hw7")  # kernels, each with a file of tests of its own


@pytest.fixture(scope="module")
def graders():
    """Graders by assignment, which share what they have drawn."""
    found = {}

    def grader(name):
        if name not in found:
            assignment = manifest.load(name)
            found[name] = Grader(assignment, Sandbox(assignment.packages), seed=11, explained=False)
        return found[name]

    yield grader
    for one in found.values():
        one.sandbox.close()


def wrongs(name):
    return {} if name in ELSEWHERE else importlib.import_module(f"tests.course.wrong.{name}").WRONG


CASES = [
    pytest.param(name, task, wrong, id=f"{name}-{task}-{wrong.name}")
    for name in NAMES
    for task, entries in wrongs(name).items()
    for wrong in entries
]


def solutions(plan):
    """What a student hands in who has done it all."""
    return {m.file: m.text for m in plan.modules.all.values() if not m.given}


@pytest.mark.parametrize("name", NAMES)
def test_a_release_is_proved_and_written(name, tmp_path):
    written = release(manifest.load(name), tmp_path / name)
    assert {"README.md", "AGENTS.md", "check.py", f"{name}.ipynb", "release.json"} <= set(written)
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(written)


@pytest.mark.parametrize(("name", "task", "wrong"), CASES)
def test_a_wrong_solution_fails_the_check_that_is_meant_for_it(graders, name, task, wrong):
    grader = graders(name)
    plan = grader.plan()
    files = solutions(plan)
    for file, edits in wrong.edits.items():
        files[file] = edited(files[file], edits)
    coded = {file: text.encode() for file, text in files.items()}
    found = [r for r in grader.grade("wrong", coded, tasks=[task]).results if r.task == task]
    failed = [r for r in found if not r.earned]
    assert failed, "it passes"
    assert failed[0].name == wrong.check, failed[0]
    assert failed[0].reason
    assert not any(r.status == "inconclusive" for r in found), found
    assert set(wrong.also) <= {r.name for r in failed}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_every_check_is_failed_by_some_wrong_solution(name):
    """The usual checks of an op are tried in test_kinds.py; these are an assignment's own."""
    own = {
        (task.name, check.name)
        for task in manifest.load(name).tasks
        for check in task.checks
        if check.kind == "custom"
    }
    tried = {(task, wrong.check) for task, entries in wrongs(name).items() for wrong in entries}
    also = {(task, c) for task, entries in wrongs(name).items() for w in entries for c in w.also}
    assert own <= tried | also, own - tried - also

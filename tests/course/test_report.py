"""What `check` prints: a line a check, the first failure's detail, and no more than it ran."""

import io
import sys

import pytest

from minillm.course import manifest, report, results
from minillm.course.results import CheckResult, Grade


@pytest.fixture(scope="module")
def assignment():
    return manifest.load("hw3")


def grade_of(assignment, statuses, seed=0):
    """A Grade with {task: statuses}; other tasks did not run."""
    grade = Grade("me", "hw3", "1.0", seed)
    for task in assignment.tasks:
        for i, status in enumerate(statuses.get(task.name, [results.NOT_RUN] * 2)):
            reason = "" if status == results.HOLDS else f"reason {task.name} {i}"
            detail = f"detail {task.name} {i}" if status == results.FAILS else ""
            grade.results.append(
                CheckResult(task.name, f"c{i}", f"title {i}", 4, status, reason, detail)
            )
    return grade


def test_the_summary_counts_what_ran(assignment):
    names = [task.name for task in assignment.tasks]
    mixed = grade_of(
        assignment,
        {name: [results.HOLDS, results.FAILS, results.STUB] for name in names[:1]}
        | {name: [results.HOLDS, results.HOLDS] for name in names[1:]},
    )
    said = report.summary(mixed)
    assert said.startswith("7 of 9 checks hold, 1 fails, 1 is not implemented.")
    assert "28 of 36 points" in said


def test_all_is_never_said_of_more_than_ran(assignment):
    one = report.summary(grade_of(assignment, {"layer_norm": [results.HOLDS] * 3}))
    assert one.startswith("All of the 3 checks of task layer_norm that ran hold; 6 others did not")
    two = {"softmax": [results.HOLDS], "linear": [results.HOLDS, results.FAILS]}
    assert "of the tasks linear and softmax that ran" in report.summary(grade_of(assignment, two))
    every = {task.name: [results.HOLDS] for task in assignment.tasks}
    assert report.summary(grade_of(assignment, every)).startswith("All of 4 checks hold.")
    assert report.summary(grade_of(assignment, {})) == "No check ran, of 8."


def test_every_status_has_its_words(assignment):
    for status in results.STATUSES:
        if status not in (results.HOLDS, results.NOT_RUN):
            said = report.summary(grade_of(assignment, {"linear": [results.HOLDS, status]}))
            assert report.ENDS[status][0] in said
            assert "All" not in said


def test_the_first_failure_of_a_task_is_shown_in_detail(assignment):
    grade = grade_of(assignment, {"linear": [results.HOLDS, results.FAILS, results.FAILS]})
    said = report.text(grade, assignment, colour=False, plain=False)
    assert "✓ title 0" in said
    assert said.count("✗ title") == 2
    assert "reason linear 1" in said
    assert "reason linear 2" in said
    assert "detail linear 1" in said
    assert "detail linear 2" not in said
    assert "4 of 12 points" in said
    assert "softmax:" not in said  # it did not run
    assert "seed 0" in said
    assert "Grading draws others" in said
    assert "Stuck? Add linear --hint" in said
    assert max(map(len, said.split("\n"))) <= 100


def test_marks_are_ascii_where_the_output_is(assignment, monkeypatch):
    grade = grade_of(assignment, {"linear": [results.HOLDS, results.FAILS, results.STUB]})
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as narrow:
        monkeypatch.setattr(sys, "stdout", narrow)
        said = report.text(grade, assignment)
    assert said.isascii()
    assert "ok title 0" in said
    assert "X  title 1" in said
    assert "\x1b" not in said
    assert "\x1b[32m" in report.text(grade, assignment, colour=True, plain=False)


def test_what_a_student_printed_does_not_reach_the_terminal_as_it_is(assignment):
    grade = grade_of(assignment, {})
    evil = "\x1b[2J" + "x" * 10**5
    grade.results = [CheckResult("linear", "c", evil, 1, results.FAILS, evil, evil)]
    said = report.text(grade, assignment, colour=False, plain=False)
    assert "\x1b" not in said
    assert len(said) < 5000


def test_hints_come_one_by_one_for_the_first_task_that_fails(assignment, tmp_path):
    grade = grade_of(assignment, {"linear": [results.HOLDS], "softmax": [results.STUB]})
    every = assignment.task("softmax").hints
    for count in (1, 2):
        given = report.next_hints(tmp_path, grade, assignment)
        assert given == {"softmax": every[:count]}
    said = report.text(grade, assignment, hints=given, colour=False, plain=False)
    assert f"hint 2 of {len(every)}" in said
    assert f"hint 3 of {len(every)}" not in said
    for _ in every:
        given = report.next_hints(tmp_path, grade, assignment)
    assert given == {"softmax": every}
    assert "That was the last hint" in report.text(grade, assignment, hints=given, plain=False)


def test_no_hints_where_all_holds_and_a_damaged_count_starts_over(assignment, tmp_path):
    holds = grade_of(assignment, {"linear": [results.HOLDS]})
    assert report.next_hints(tmp_path, holds, assignment) == {}
    assert list(tmp_path.iterdir()) == []
    fails = grade_of(assignment, {"linear": [results.FAILS]})
    for damaged in ("[", "[1]", '{"linear": "many"}', '{"linear": -3}'):
        (tmp_path / report.HINTS).write_text(damaged, encoding="utf-8")
        assert len(report.next_hints(tmp_path, fails, assignment)["linear"]) == 1

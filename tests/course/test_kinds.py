"""The usual checks of an op: each can fail, and a gradient counts only at a derived one's cost."""

import time

import numpy as np
import pytest

from minillm.course import cost
from minillm.course.draw import EDGES, OpCases
from minillm.course.judge import difference
from minillm.course.manifest import load
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.ops import linear, lstm_cell
from tests.course.honest import ANN, BEN
from tests.course.numerical import NUMERICAL, STATES
from tests.course.wrong import edited, hw3, hw4

JACOBIAN = """    rows, ups = y.reshape(-1, y.shape[-1]), dy.reshape(-1, y.shape[-1])
    dx = [(np.diag(r) - np.outer(r, r)) @ up for r, up in zip(rows, ups)]
    return np.array(dx).reshape(y.shape)"""
DERIVED = "    return y * (dy - (dy * y).sum(axis, keepdims=True))"


@pytest.fixture(scope="module")
def graders():
    with Sandbox() as sandbox:
        names = ("hw3", "hw4")
        yield {n: Grader(load(n), sandbox, seed=5, explained=False) for n in names}


def grade(grader, file, text, task):
    modules = grader.plan().modules
    files = {f"{m.flat}.py": m.text.encode() for m in modules.all.values() if not m.given}
    found = grader.grade("one", files | {file: text.encode()}, tasks=[task]).results
    return {r.name: r for r in found if r.task == task}


@pytest.mark.parametrize(("name", "op"), NUMERICAL, ids=lambda x: x)
def test_a_numerical_gradient_counts_nothing(graders, name, op):
    grader = graders[name]
    text = edited(grader.plan().modules.all[op].text, NUMERICAL[name, op])
    task = "cross_entropy" if op == "log_softmax" else op
    found = grade(grader, f"{op}.py", text, task)
    checks = [run for run in grader.plan().checks[task] if run.op and run.op.name == op]
    for run in checks:
        result = found[run.name]
        if run.timed or run.cost:
            assert result.status == "fails", (run.name, result)
            assert "times its forward" in result.reason, (run.name, result)
        else:
            assert result.status == "holds", (run.name, result)


@pytest.mark.parametrize("op", STATES)
def test_nor_does_one_of_a_state(graders, op):
    """It has fewer columns than x, and must be as wide to take long."""
    text = edited(graders["hw4"].plan().modules.all[op].text, STATES[op])
    found = grade(graders["hw4"], f"{op}.py", text, op)
    assert found.pop("forward").status == "holds"
    assert {r.status for r in found.values()} == {"fails"}, found
    assert all("times its forward" in r.reason for r in found.values()), found


def test_a_slow_backward_cannot_go_on_where_it_stopped(graders):
    """It is tried three times, each time on other arrays."""
    plan, asked = graders["hw3"].plan(), []

    class Slow:
        pid = 0

        def ask(self, drive, case, seconds):
            asked.append((drive, (case["dout"] if "dout" in case else case["args"][0]).tobytes()))
            time.sleep(0.002)
            return {}

    run = next(run for run in plan.checks["softmax"] if run.timed)
    case, expected = plan.answer(run, 5, *run.sizes)
    found = cost.Cost(case, expected)
    assert cost._backward(found, Slow(), plan, run, 5, 0.001) > 0.001
    assert [drive for drive, _ in asked] == ["timed_backward"] + 2 * [
        "timed_forward",
        "timed_backward",
    ]
    assert len({data for _, data in asked}) == 5
    _, judged_by = plan.answer(run, 7, *run.sizes)
    assert found.expected["dx"] is judged_by["dx"]


@pytest.mark.parametrize("files", [ANN, BEN], ids=["ann", "ben"])
def test_loops_over_rows_and_einsum_are_fine(graders, files):
    for file, text in files.items():
        found = grade(graders["hw3"], file, text, file.removesuffix(".py"))
        usual = {name: r for name, r in found.items() if name != "extreme"}
        assert {r.status for r in usual.values()} == {"holds"}, (file, usual)


def test_a_jacobian_that_is_written_out_is_too_slow_and_told_so(graders):
    text = graders["hw3"].plan().modules.all["softmax"].text
    text = edited(text, [(DERIVED, JACOBIAN)])
    text = text.replace(
        "y, axis = cache",
        "y, axis = cache\n    y = np.moveaxis(y, axis, -1)\n    dy = np.moveaxis(dy, axis, -1)",
    )
    found = grade(
        graders["hw3"],
        "softmax.py",
        text.replace("reshape(y.shape)", "reshape(y.shape).swapaxes(axis, -1)"),
        "softmax",
    )
    assert found["cost"].status in ("fails", "out of memory")
    assert found["forward"].status == "holds"


def test_a_forward_that_prepares_everything_is_found_out(graders):
    text = graders["hw3"].plan().modules.all["softmax"].text
    text = text.replace(
        "    largest =",
        "    if x.size > 1000:\n        import time; time.sleep(0.6)\n    largest =",
    )
    found = grade(graders["hw3"], "softmax.py", text, "softmax")
    assert "too long to measure" in found["cost"].reason
    assert found["dx"].status == "fails"


def test_what_faults_on_many_elements_is_measured_once(graders, monkeypatch):
    calls = []
    timed = cost._clocked
    monkeypatch.setattr(cost, "_clocked", lambda *args: calls.append(args[1]) or timed(*args))
    text = graders["hw3"].plan().modules.all["softmax"].text
    text = edited(text, [(DERIVED, "    assert y.size < 1000\n" + DERIVED)])
    found = grade(graders["hw3"], "softmax.py", text, "softmax")
    assert {found[name].status for name in ("dx", "edges", "calls", "cost")} == {"crashed"}
    assert found["dx"].reason.startswith("on 100,000 elements: ")
    assert calls.count("timed_backward") == 1


def test_every_usual_check_is_failed_first_by_some_wrong_solution():
    """What costs too much is above."""
    for name, module in (("hw3", hw3), ("hw4", hw4)):
        for task in load(name).tasks:
            with_own = {check.name for check in task.checks}
            usual = with_own or {"forward", "edges", "calls"}
            tried = {wrong.check.rpartition(" ")[2] for wrong in module.WRONG[task.name]}
            if task.name in ("softmax", "cross_entropy"):
                usual = {"forward"}
            assert usual - {"cost"} <= tried, (task.name, usual - tried)


def drawn(op, task, size, **kwargs):
    cases = OpCases(op, op.__name__, task)
    return cases.draw(np.random.default_rng(3), size, **kwargs)


def test_edges_are_edges():
    task = load("hw3").task("linear")
    shapes = {
        edge: [x if x is None else x.shape for x in drawn(linear, task, 3, edge=edge)["args"]]
        for edge in EDGES
    }
    assert set(shapes["ones"][0] + shapes["ones"][1]) == {1}
    assert len(shapes["no leading"][0]) == 1
    assert 1 in shapes["some ones"][0] + shapes["some ones"][1]
    assert len(shapes["more leading"][0]) == 4
    assert shapes["more leading"][2] is None
    assert shapes["square"][1] == (3, 3)


def test_parts_of_an_upstream_gradient_are_absent_at_times():
    task = load("hw3").task("linear")
    cases = OpCases(lstm_cell, "lstm_cell", task)
    rng = np.random.default_rng(0)
    douts = [cases.draw(rng, 3)["dout"] for _ in range(40)]
    assert any(d["h"] is None for d in douts)
    assert any(d["c"] is None for d in douts)
    assert all(set(d) == {"h", "c"} for d in douts)


@pytest.mark.parametrize(
    ("expected", "came", "says"),
    [
        (np.ones(2), np.ones(2) * (1 + 1e-13), None),
        (np.ones(2), np.ones(2) * (1 + 1e-10), "nearer than a slip"),
        (np.ones(2), np.ones((2, 1)), "shape (2, 1), expected (2,)"),
        (np.ones(2), np.ones(2, np.float32), "float32, expected float64"),
        (np.ones(2), np.ones(2, complex), "complex128"),
        (np.ones(2), np.array([1, np.nan]), "[1] is nan, expected 1"),
        (np.array([True]), np.array([False]), "is False, expected True"),
        ({"a": np.ones(1)}, {"b": np.ones(1)}, "must hold a; got b"),
        ([np.ones(1)], None, "must be a list, got None"),
        (None, np.ones(1), "must be None"),
        (np.zeros(1), np.full(1, -1.0), "is -1, expected 0"),
    ],
)
def test_what_a_difference_says(expected, came, says):
    found = difference(expected, came)
    assert found is None if says is None else says in found


def test_what_is_small_beside_the_whole_is_measured_by_the_whole():
    tiny = {"dx": np.array([1e-12])}
    off = {"dx": np.array([1.01e-12])}
    assert difference(tiny, off)
    assert difference(tiny, off, whole=tiny | {"out": np.ones(1)}) is None


def test_a_list_in_the_place_of_an_array_is_told():
    told = difference({"out": np.ones(2)}, {"out": [1.0, 1.0]})
    assert told == "out must be an array of shape (2,), got a list"

"""What a student is told about a failure: small, to the point, never in the way of a result."""

import re

import numpy as np
import pytest

from minillm.course import manifest, show
from minillm.course.chain import Row, table
from minillm.course.faults import Fault
from minillm.course.questions import Failing, kind, says_nothing
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox

SHARE = """
        - normed * (dnormed * normed).mean(-1, keepdims=True)"""
WRONG = {  # of layer_norm: what is replaced by what
    "share": (SHARE, ""),
    "swapped": ("return dx, dgain, dbias", "return dx, dbias, dgain"),
    "unbiased": ("(centred**2).mean(-1, keepdims=True)", "centred.var(-1, ddof=1, keepdims=True)"),
    "sum": ("dbias = sum_to_shape(dy, gain.shape)", "dbias = dy"),
    "raises": ("dnormed = dy * gain", "dnormed = dy @ gain.reshape(1, -1)"),
    "writes": ("    dnormed = dy * gain", "    dnormed = dy * gain\n    dy *= 2"),
    "single": ("dnormed = dy * gain", "dnormed = dy * np.ones(gain.shape) * gain"),
    "gaps": ("dnormed = dy * gain", "dnormed = dy * gain * (1 + (cache[1].strides[0] > 1e9))"),
    "renamed": ("centred", "middle"),
    "hangs": ("    dnormed = dy * gain", "    dnormed = dy\n    while dy.shape == (3, 4): pass"),
    "random": ("dnormed = dy * gain", "dnormed = dy * gain * (1 + (np.random.rand() < 0.5))"),
}


@pytest.fixture(scope="module")
def graders():
    """The hw3 grader, with and without explanations; they share what is drawn."""
    assignment = manifest.load("hw3")
    sandbox = Sandbox(assignment.packages)
    yield {
        explained: Grader(assignment, sandbox, seed=1, explained=explained)
        for explained in (True, False)
    }
    sandbox.close()


def graded(graders, name, explained=True):
    """{check: result} of layer_norm with a mistake."""
    grader = graders[explained]
    text = grader.plan().modules.all["layer_norm"].text
    assert WRONG[name][0] in text
    files = {"layer_norm.py": text.replace(*WRONG[name]).encode()}
    grade = grader.grade("me", files, tasks=["layer_norm"])
    return {r.name: r for r in grade.results if r.task == "layer_norm"}


def pasted(detail, tmp_path, text):
    """What the code in a detail computes, with a student's module."""
    code = "\n".join(line[4:] for line in detail.split("\n\n")[0].split("\n")[1:])
    code = code.replace("from layer_norm import layer_norm\n", "")
    names = {"np": np}
    text = re.sub(r"from (_op|minillm\S*) import .*", "", text)
    text = text.replace("@op\n", "").replace("@layer_norm.defbackward\n", "")
    helpers = "def check_shape(*_): pass\ndef sum_to_shape(a, s): return a.reshape(-1, *s).sum(0)\n"
    exec(helpers + text + "\nlayer_norm.backward = layer_norm_backward\n" + code, names)
    return names


def test_the_smallest_case_is_small_and_can_be_pasted(graders, tmp_path):
    detail = graded(graders, "share")["dx"].detail
    text = graders[True].plan().modules.all["layer_norm"].text
    right = pasted(detail, tmp_path, text)
    wrong = pasted(detail, tmp_path, text.replace(*WRONG["share"]))
    assert right["x"].size <= 4
    assert sorted(right["dy"]) == [0] * (right["x"].size - 1) + [1]
    assert not np.allclose(right["dx"], wrong["dx"])
    for word, names in (("came", wrong), ("expected", right)):
        shown = re.search(rf"dx\s+{word}\s+(\[.*\])", detail)[1]
        assert np.allclose(eval(shown), names["dx"], atol=1e-5)


def test_the_checker_says_which_half_is_wrong(graders):
    backward = graded(graders, "share")["dx"].detail
    assert "Your backward is not the gradient of your forward: dx differs" in backward
    assert "a subtracted term" in backward
    forward = graded(graders, "unbiased")["dgain"].detail
    assert "dgain is the gradient of your own forward" in " ".join(forward.split())
    assert "at inputs where" not in forward


def test_exchanged_gradients_and_missing_sums_are_named(graders):
    assert "the order of" in " ".join(graded(graders, "swapped")["dgain"].detail.split())
    detail = graded(graders, "sum")["dbias"].detail
    assert "the sum over the axes along which bias is broadcast is missing" in detail
    assert "yours has shape" in detail


def test_the_first_wrong_value_is_marked_in_the_order_of_the_code(graders):
    lines = graded(graders, "unbiased")["forward"].detail.split("\n")
    marked = [line.split()[0] for line in lines if "goes wrong first" in line]
    assert marked == ["inv_std"]
    rows = [line.split()[0] for line in lines if re.search(r"\) +(yes|close|no)\b", line)]
    assert rows[:3] == ["centred", "inv_std", "normed"]
    lines = graded(graders, "share")["dx"].detail.split("\n")
    assert [line.split()[0] for line in lines if "goes wrong first" in line] == ["dx"]
    assert all(" yes " in line for line in lines if line.split()[:1] == ["dnormed"])


def test_a_name_that_is_not_there_is_said_to_be_so(graders):
    grader = graders[True]
    text = grader.plan().modules.all["layer_norm"].text.replace(*WRONG["renamed"])
    files = {"layer_norm.py": text.replace(SHARE, "").encode()}
    found = {r.name: r for r in grader.grade("me", files, tasks=["layer_norm"]).results}
    detail = next(r.detail for r in found.values() if r.name == "dx" and r.detail)
    assert re.search(r"centred .*\? +not there under this name", detail)


def test_an_exception_is_shown_at_its_smallest_case(graders):
    result = graded(graders, "raises")["dx"]
    assert result.status == "crashed"
    assert "smallest case found where this happens" in result.detail
    assert "shapes: x (" in result.detail


def test_calls_say_which_of_their_questions_fails(graders):
    assert "float32 has to stay float32" in graded(graders, "single")["calls"].detail
    found = graded(graders, "writes")
    failed = [r for r in found.values() if r.status == "fails"]
    assert failed
    assert any("writes to" in " ".join(r.detail.split()) for r in failed)


def test_an_explanation_changes_no_result(graders):
    for name in ("swapped", "hangs"):
        long, short = graded(graders, name), graded(graders, name, explained=False)
        assert {k: r.status for k, r in long.items()} == {k: r.status for k, r in short.items()}
        assert {k: r.reason for k, r in long.items()} == {k: r.reason for k, r in short.items()}


def test_an_explanation_that_breaks_is_shorter(graders, monkeypatch):
    from minillm.course import chain, diagnose

    def ends(*_):
        raise Fault("ended", "its process ended")

    def breaks(*_):
        raise ZeroDivisionError

    whole = graded(graders, "share")["dx"]
    monkeypatch.setattr(diagnose, "examine", ends)
    short = graded(graders, "share")["dx"]
    assert short.status == whole.status == "fails"
    assert whole.detail.startswith(short.detail)
    assert len(short.detail) < len(whole.detail)
    monkeypatch.setattr(chain, "rows", breaks)
    assert "ZeroDivisionError in the checker itself" in graded(graders, "share")["dx"].detail


def test_what_changes_from_call_to_call_is_called_random(graders):
    told = [r.detail for r in graded(graders, "random").values() if r.status == "fails"]
    assert told  # whichever way the coin fell, nothing of it is inconclusive


def test_rows_tell_exact_from_close_from_wrong_and_shapes():
    x = np.array([1.0, 2.0])
    assert Row("f", "x", x, x.copy()).exact == "yes"
    assert Row("f", "x", x, x * (1 + 1e-14)).exact == "close"
    assert Row("f", "x", x, x * (1 + 1e-6)).exact == "no"
    assert Row("f", "x", x, x[None]).note == "yours has shape (1, 2)"
    assert Row("f", "x", x, None).note == "not there under this name"
    assert Row("f", "x", x * 1e-18, x * 1e-17, largest=1.0).exact == "close"
    lines = table([Row("f", "x", x, x), Row("g", "y", x, x + 1)])
    assert [line.strip() for line in lines if line.startswith("  in")] == ["in f", "in g"]
    assert table([]) == []


def test_a_way_of_failing_forgets_numbers_and_places_only():
    def way(problem, raised=False):
        return kind(Failing({}, {}, {}, problem, raised))

    same = "dx[0, 1] is 0.5, expected -1e-05 (2 of 4 elements are wrong)"
    assert way(same) == way("dx[3] is nan, expected 7; what came is x, unchanged")
    assert way(same) != way("dgain[0] is 0.5, expected 1")
    assert way(same) != way("dx has shape (2, 3), expected (3,)")
    at = "raised ValueError: sizes {} and {}, at line 7 of linear.py"
    assert way(at.format(2, 3), True) == way(at.format(4, 5), True)
    assert way(at.format(2, 3), True) != way(at.replace("7", "8"), True)


def test_a_case_that_shows_nothing_is_known_as_such():
    out, problem = np.array([1.0, 2.0]), "dx[0] is 1, expected 0"

    def nothing(expected, came):
        return says_nothing(Failing({}, {"out": out, "dx": expected}, {"dx": came}, problem))

    assert nothing(np.zeros(2), np.ones(2))
    assert nothing(np.ones(2), np.ones(2) * 1.001)
    assert not nothing(np.ones(2), np.array([1.0, 0.0]))


def test_arrays_are_code_where_they_are_short():
    case = {
        "module": "linear", "function": "linear", "names": ["x", "weight", "bias"],
        "args": [np.array([[0.3, 1.2]], np.float32), np.zeros((20, 3)), None],
        "kwargs": {"eps": 0.1, "ids": np.array([1, 2])},
    }  # fmt: skip
    lines = [line.strip() for line in show.call_of(case)]
    assert lines == [
        "from linear import linear",
        "x = np.array([[0.3, 1.2]], np.float32)",
        "# weight: float64 of shape (20, 3), begins 0.0, 0.0, 0.0, 0.0, ...",
        "ids = np.array([1, 2])",
        "linear(x, weight, eps=0.1, ids=ids)",
    ]


def test_trees_are_shown_compactly_and_never_at_length():
    tree = {(1, 2): [b"a", 0.25], "n": None, "x": np.arange(3.0)}
    assert show.plain(tree) == "{(1, 2): [b'a', 0.25], 'n': None, 'x': [0.0, 1.0, 2.0]}"
    assert len(show.plain(list(range(10**5)))) < 400
    assert len(show.plain("x" * 10**6)) < 400
    assert len("\n".join(show.short("came", ["word"] * 10**4))) < 800
    deep = []
    for _ in range(39):
        deep = [deep] * 2
    assert len(show.plain(deep, 100)) < 200

"""Files with a mistake in them: how the mistake gets in, and what its name counts for."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minillm
from minillm.course import bugs, source
from minillm.course.manifest import load, parse
from minillm.course.modules import Modules
from minillm.errors import UserError
from minillm.gradcheck import catalogue, diagnosis, mistakes
from minillm.ops import binary_cross_entropy

TEXT = '''"""A sum."""

import numpy as np

WIDE = 3


def twice(x):
    """Two of x."""
    return x + x, None


def twice_backward(dy, cache):
    return dy + dy
'''
HW8 = load("hw8")


def test_the_mistake_is_put_where_it_belongs_and_nothing_else_changes():
    text = bugs.broken(TEXT, [bugs.Bug("twice_backward", "dy + dy", "dy")])
    assert text == TEXT.replace("return dy + dy", "return dy")


def test_a_mistake_may_have_several_places():
    pair = [bugs.Bug("twice", "x + x", "3 * x"), bugs.Bug("twice_backward", "dy + dy", "3 * dy")]
    text = bugs.broken(TEXT, pair)
    assert "return 3 * x, None" in text
    assert "return 3 * dy\n" in text


@pytest.mark.parametrize("right", ["dy - dy", "dy"])
def test_a_fragment_must_stand_there_once(right):
    with pytest.raises(UserError, match="twice_backward: right must stand there once, got"):
        bugs.broken(TEXT, [bugs.Bug("twice_backward", right, "0")])


def test_the_constant_stands_below_the_imports():
    text = bugs.with_cause(TEXT, "factor")
    assert 'import numpy as np\n\nCAUSE = "factor"\n\nWIDE' in text
    held: dict = {}
    exec(text, held)
    assert held["CAUSE"] == "factor"


def judged(came, problem=None):
    judge = bugs.cause_judge(("factor", "missing_sum"), lambda case, expected, came: problem)
    return judge({"case": {}}, {}, came)


def test_either_name_counts_in_a_file_that_is_mended():
    assert judged({"cause": "factor", "answer": {}}) is None
    assert judged({"cause": "missing_sum", "answer": {}}) is None


def test_no_name_counts_in_a_file_that_is_not():
    assert "once the file is mended, and out is 3" in judged(
        {"cause": "factor", "answer": {}}, "out is 3"
    )


@pytest.mark.parametrize("cause", [None, 3, "no such name", ["factor"], np.ones(2)])
def test_what_is_no_name_is_told(cause):
    assert "must be a name from the list" in judged({"cause": cause, "answer": {}})


def test_no_name_yet_is_told():
    assert judged({"cause": "", "answer": {}}) == "CAUSE is still empty"


def test_another_name_is_told_and_the_right_one_is_not():
    message = judged({"cause": "sign", "answer": {}})
    assert "'sign'" in message
    assert "factor" not in message


@pytest.mark.parametrize("came", [None, {}, {"cause": "factor"}, "factor"])
def test_an_answer_of_another_form_is_refused(came):
    assert judged(came)


def test_the_names_are_those_of_the_checker_and_one_more():
    named = {cause for entry in catalogue.load() for cause in entry.causes}
    assert named <= bugs.CAUSES.keys()
    files = [*Path(diagnosis.__file__).parent.glob("*.py"), Path(mistakes.__file__)]
    said = "".join(file.read_text() for file in files)
    unsaid = {cause for cause in bugs.CAUSES.keys() - named if f'"{cause}"' not in said}
    assert unsaid == {"forward"}


def test_the_handout_lists_them_as_they_are():
    rows = [f"| `{name}` | {text} |" for name, text in bugs.CAUSES.items()]
    assert "\n".join(rows) in HW8.introduction


def test_a_manifest_with_a_cause_that_is_none_is_refused():
    task = {
        "name": "t",
        "title": "t",
        "parts": ["minillm.ops.mse"],
        "prose": "x",
        "points": 1,
        "causes": ["no such name"],
        "bug": [{"function": "mse", "right": "a", "wrong": "b"}],
    }
    table = {"title": "x", "version": "1", "hours": 1, "goals": [], "introduction": "x"}
    with pytest.raises(UserError, match="causes"):
        parse("hw", HW8.folder, table | {"task": [task]})
    with pytest.raises(UserError, match="causes"):
        parse("hw", HW8.folder, table | {"task": [task | {"causes": ["factor"], "bug": []}]})


@pytest.fixture(scope="module")
def modules():
    return Modules(HW8)


@pytest.mark.parametrize("task", HW8.tasks, ids=lambda task: task.name)
def test_a_starter_is_the_reference_but_for_its_mistake(modules, task):
    starter, whole = modules.starter(task.name), modules.all[task.name].text
    assert 'CAUSE = ""' in starter
    assert f'CAUSE = "{task.causes[0]}"' in whole
    assert "NotImplementedError" not in starter
    changed = {
        name
        for name in source.functions(whole)
        if source.source_of(whole, name) != source.source_of(starter, name)
    }
    assert changed == {bug.function for bug in task.bugs}


@pytest.mark.parametrize("task", HW8.tasks, ids=lambda task: task.name)
def test_a_task_s_process_has_earlier_files_mended_and_later_ones_not(modules, task):
    files, _ = modules.child_files(task.name, {})
    for other in HW8.tasks:
        mended = HW8.tasks.index(other) < HW8.tasks.index(task)
        expected = modules.all[other.name].text if mended else modules.starter(other.name)
        assert files[f"{other.name}.py"] == expected


def test_the_mistakes_are_of_many_kinds():
    assert len({task.causes[0] for task in HW8.tasks}) >= 6


SAID = """
import importlib, json, sys
import numpy as np
from minillm.gradcheck import check_vjp, draw

known, found = set(sys.modules), {}
params = [{k: a for k, a in zip(("weight_x", "weight_h", "bias", "bias_h"), draw(*shapes))}
          for shapes in [((4, 9), (3, 9), 9, 9)]]
POINTS = {
    "binary_cross_entropy": (draw((3, 4)), {"targets": np.full((3, 4), 0.3)}),
    "embedding": (draw((5, 3)), {"ids": np.array([[1, 4, 1], [0, 1, 2]])}),
    "rms_norm": (draw((2, 4, 6), 6), {}),
    "gru_cell": ((*draw((2, 4), (2, 3)), params[0]), {}),
    "sinusoidal": (draw((2, 3, 5)), {}),
    "gru": ((*draw((2, 5, 4), (1, 2, 3)), params), {}),
    "rotary": (draw((2, 3, 5, 8)), {}),
    "gelu": (draw((4, 6)), {"approximate": "tanh"}),
}
for task, (args, kwargs) in POINTS.items():
    sys.path.insert(0, f"{sys.argv[1]}/{task}")
    op = getattr(importlib.import_module(task), task)
    report = check_vjp(op, op.backward, args, kwargs)
    found[task] = [report.verdict, [d.cause for d in report.diagnoses]]
    sys.path.pop(0)
    for name in ("gru_cell", "_op", "_check", "_recurrent", "_position", "sigmoid"):
        sys.modules.pop(name, None)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said(modules, tmp_path_factory):
    """{task: (verdict, causes)}: what the checker says of each file as it is handed out."""
    folder = tmp_path_factory.mktemp("hw8")
    for task in HW8.tasks:
        (folder / task.name).mkdir()
        for file, text in modules.child_files(task.name, {})[0].items():
            (folder / task.name / file).write_text(text)
    run = subprocess.run(
        [sys.executable, "-c", SAID, str(folder)], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("task", HW8.tasks, ids=lambda task: task.name)
def test_the_checker_names_a_mistake_or_cannot_see_it(said, task):
    verdict, causes = said[task.name]
    if "forward" in task.causes:
        assert (verdict, causes) == ("pass", [])
    else:
        assert verdict == "fail"
        assert set(task.causes) & set(causes)


def test_one_passes_where_the_upstream_gradient_is_one(modules):
    held: dict = {}
    text = modules.starter("binary_cross_entropy")
    start = text.index("@binary_cross_entropy.defbackward")
    held["sigmoid"] = lambda x: (1 / (1 + np.exp(-x)), None)
    exec(text[start:].partition("\n")[2], held)
    cache = np.array([0.5, -1.0]), np.array([1.0, 0.0])
    with minillm.backend("numpy"):
        _, right = binary_cross_entropy(cache[0], targets=cache[1])
        for upstream, same in ((1.0, True), (2.0, False)):
            one = held["binary_cross_entropy_backward"](upstream, cache)
            other = binary_cross_entropy.backward(upstream, right)
            assert np.allclose(one, other) is same

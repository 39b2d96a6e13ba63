from pathlib import Path

import pytest

from minillm.course import manifest, source
from minillm.course.modules import Modules
from minillm.errors import UserError


def assignment(tasks, **more):
    table = {"title": "T", "version": "1", "hours": 1, "goals": [], "introduction": "i"}
    return manifest.parse("own", Path("own"), table | {"task": tasks} | more)


def op_task(name, *parts, **more):
    base = {"name": name, "title": name, "parts": list(parts), "points": 10, "prose": "p"}
    return base | more


@pytest.fixture
def three():
    return Modules(
        assignment(
            [
                op_task("softmax", "minillm.ops.softmax"),
                op_task("cross_entropy", "minillm.ops.log_softmax", "minillm.ops.cross_entropy"),
                op_task("layer_norm", "minillm.ops.layer_norm", chain=["centred", "dnormed"]),
            ]
        )
    )


def test_what_the_parts_import_is_handed_out_under_flat_names(three):
    assert sorted(three.all) == [
        "_check", "_op", "cross_entropy", "layer_norm", "log_softmax", "softmax",
    ]  # fmt: skip
    assert "from log_softmax import log_softmax" in three.starter("cross_entropy")
    assert "minillm" not in "".join(
        line for text in three.starters().values() for line in text.split("\n") if "import" in line
    )
    handed_in = ["softmax.py", "log_softmax.py", "cross_entropy.py", "layer_norm.py"]
    assert three.handed_in == handed_in


def test_a_starter_runs_up_to_its_first_call(three, tmp_path, monkeypatch):
    for name, text in three.starters().items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    space = {}
    exec("from layer_norm import layer_norm", space)
    assert space["layer_norm"].positional == ("x", "gain", "bias")
    with pytest.raises(NotImplementedError, match="layer_norm: layer_norm"):
        space["layer_norm"](1, 2, 3)
    with pytest.raises(NotImplementedError, match="layer_norm: layer_norm_backward"):
        space["layer_norm"].backward(1, 2)
    for name in list(three.all):
        __import__("sys").modules.pop(name, None)


def test_a_stub_says_what_is_to_be_returned_and_the_values_on_the_way(three):
    text = three.starter("layer_norm")
    assert "Return dx, dgain, dbias: each shaped and typed as its parameter." in text
    assert "#   centred  (..., C)" in text
    assert "#   dnormed  (..., C)" in text


def test_a_task_s_process_has_earlier_solutions_its_own_file_and_later_stubs(three):
    mine = b"mine"
    files, replace = three.child_files("cross_entropy", {"cross_entropy.py": mine})
    assert files["cross_entropy.py"] == mine
    assert files["softmax.py"] == three.all["softmax"].text
    for name in ("log_softmax.py", "layer_norm.py"):
        assert "raise NotImplementedError" in files[name], name
        assert "np." not in files[name].replace("import numpy as np", "")
    assert not replace


def test_tasks_of_one_file_are_put_together_by_function():
    functions = [{"minillm.ops.softmax": [n]} for n in ("softmax", "softmax_backward")]
    both = Modules(
        assignment(
            [
                {
                    "name": task, "title": "t", "parts": ["minillm.ops.softmax"], "functions": f,
                    "prose": "p",
                    "check": [{"kind": "forward", "points": 1}],
                }
                for task, f in zip(("forward", "backward"), functions, strict=True)
            ]
        )
    )  # fmt: skip
    reference = both.all["softmax"].text
    files, replace = both.child_files("backward", {"softmax.py": b"mine"})
    assert files["softmax.py"] == b"mine"
    right = source.source_of(reference, "softmax")
    assert replace == {"softmax.py": {"softmax": right}}
    _, replace = both.child_files("forward", {"softmax.py": b"mine"})
    assert "raise NotImplementedError" in replace["softmax.py"]["softmax_backward"]
    assert "dy *" not in replace["softmax.py"]["softmax_backward"]


def test_a_redirected_import_keeps_a_solution_out():
    task = op_task("attention", "minillm.ops.scaled_dot_product_attention")
    heads = op_task("heads", "minillm.ops.multi_head_attention")
    to = "minillm.ops.scaled_dot_product_attention"
    made = Modules(
        assignment([task, heads], handout={"imports": {"minillm.ops.flash_attention": to}})
    )
    assert "flash_attention" not in made.all
    text = made.all["multi_head_attention"].text
    assert "from scaled_dot_product_attention import" in text


def test_a_variant_s_default_is_the_student_s(three):
    other = Modules(three.assignment, {"softmax": {"axis": 0}})
    assert "def softmax(x, *, axis=0):" in other.starter("softmax")
    assert "def softmax(x, *, axis=-1):" in three.starter("softmax")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("minillm.ops.nothing", "no module minillm.ops.nothing"),
        ("minillm.ops._check", "has no _check: name its functions|no _check"),
    ],
)
def test_a_part_that_is_not_there_is_named(part, message):
    with pytest.raises(UserError, match=message):
        Modules(assignment([op_task("t", part)]))

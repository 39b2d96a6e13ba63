"""A variant for each student: settled by names, and as good an assignment as the original."""

import pytest

from minillm.course import handout, proofs
from minillm.course.manifest import load
from minillm.course.modules import Modules
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from minillm.course.variants import is_turned, set_variant, variant_of
from minillm.errors import UserError

HW3 = load("hw3")
TURNED = {
    "linear": {"weight": "(C_out, C_in)"},
    "softmax": {"axis": 0},
    "layer_norm": {"eps": 1e-2},
}


def test_a_student_has_one_variant_and_students_differ():
    assert variant_of(HW3, "ada") == variant_of(HW3, "ada")
    found = [variant_of(HW3, f"student{i}") for i in range(40)]
    for task, table in HW3.variants.items():
        for keyword, values in table.items():
            assert {v[task][keyword] for v in found} == set(values)


def test_a_variant_is_the_same_on_every_machine():
    assert variant_of(HW3, "ada") == {
        "linear": {"weight": "(C_out, C_in)"},
        "softmax": {"axis": -1},
        "layer_norm": {"eps": 0.01},
    }


def test_every_value_can_be_set():
    for task, table in HW3.variants.items():
        for keyword, value in [(k, v) for k, values in table.items() for v in values]:
            assert Modules(HW3, {task: {keyword: value}}).starter(task)


@pytest.mark.parametrize("variant", [TURNED], ids=["turned"])
def test_a_variant_is_proved_like_the_original(variant):
    with Sandbox() as sandbox:
        graders = {}

        def grader_of(seed):
            return graders.setdefault(seed, Grader(HW3, sandbox, seed=seed, explained=False))

        plan = grader_of(0).plan(variant)
        assert proofs.prove(HW3, grader_of, plan, handout.texts(HW3, plan)) > 20
        plain = {n: t.encode() for n, t in Modules(HW3).starters().items()}
        plain |= {f"{m.flat}.py": m.text.encode() for m in Modules(HW3).all.values() if not m.given}
        found = grader_of(0).grade("other variant", plain, variant=variant).results
        failed = {r.task for r in found if not r.earned}
        assert failed == {"linear", "softmax", "layer_norm"}, failed


def test_a_layout_is_said_in_the_docstring_and_kept_by_the_solution():
    modules = Modules(HW3, TURNED)
    starter = modules.starter("linear")
    assert "weight : (C_out, C_in)" in starter
    assert "Equation: y = x @ weight.T + bias" in starter
    assert "(C_in, C_out)" not in starter
    assert "axis=0" in modules.starter("softmax")
    assert "eps=0.01" in modules.starter("layer_norm")
    assert Modules(HW3).starter("linear") == Modules(
        HW3, {"linear": {"weight": "(C_in, C_out)"}}
    ).starter("linear")


def test_a_layout_that_is_none_is_refused():
    assert is_turned("(C_in, C_out)", "(C_out, C_in)")
    with pytest.raises(UserError, match="its transpose"):
        is_turned("(C_in, C_out)", "(C, C)")
    text = Modules(HW3).all["linear"].text
    assert set_variant(text, "linear", "nothing", 3) == text

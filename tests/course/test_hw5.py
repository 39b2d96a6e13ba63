"""hw5: what a trained model must reach, and what is out of reach."""

import numpy as np
import pytest

from minillm.course.manifest import load
from minillm.course.run import Grader
from minillm.course.sandbox import Limits, Sandbox
from minillm.tree import flatten, map_leaves

HW5 = load("hw5")


@pytest.fixture(scope="module")
def grader():
    with Sandbox(HW5.packages) as sandbox:
        yield Grader(HW5, sandbox, seed=3, explained=False)


@pytest.fixture(scope="module")
def language(grader):
    """(the case, the reference's parameters after training)"""
    reference = grader.plan().reference
    case = reference.cases.text(np.random.default_rng(3), 1)
    return case, reference.drive("trained", case)[0]


def trained(grader, case, file, *edits):
    """What training returns in a process of its own, with one file of the solution changed."""
    modules = grader.plan().modules
    files = {module.file: module.text for module in modules.all.values()}
    for old, new in edits:
        assert old in files[file]
        files[file] = files[file].replace(old, new)
    drivers = grader._drivers()
    with grader.sandbox.child(
        files, drivers=drivers, limits=Limits(seconds=60), packages=HW5.packages
    ) as child:
        return child.ask("trained", case, seconds=60)


def judged(grader, case, params):
    return grader.plan().reference.cases.reaches(case, None, params)


def test_the_reference_reaches_the_loss_with_margin(grader, language):
    case, params = language
    cases = grader.plan().reference.cases
    config = cases.gpt.GPTConfig(**case["model"])
    flat = {name: p.astype(np.float64) for name, p in flatten(params).items()}
    loss = cases._loss(case, config, flat)
    assert cases.ENTROPY < loss < cases.STATED - 0.05
    assert judged(grader, case, params) is None


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("scaled_dot_product_attention.py", ("return dq, dk, dv,", "return 0 * dq, 0 * dk, dv,")),
        ("scaled_dot_product_attention.py", ("S - T if causal else None", "None")),
        ("adam.py", ("        p -= step\n", "        p += step\n")),
    ],
    ids=["weights that do not learn", "no causal mask", "uphill"],
)
def test_the_loss_is_out_of_reach_for(grader, language, file, edit):
    params = trained(grader, language[0], file, edit)
    assert "at most 0.8 is asked" in judged(grader, language[0], params)


def test_parameters_of_one_language_are_of_no_use_in_another(grader, language):
    other = grader.plan().reference.cases.text(np.random.default_rng(4), 1)
    assert "the loss on new text is" in judged(grader, other, language[1])


@pytest.mark.parametrize("came", [None, {}, [], 3, {"wte": np.ones(3)}, {"wte": {"a": 1}}])
def test_what_are_no_parameters_is_told(grader, language, came):
    assert "training must return the parameters" in judged(grader, language[0], came)


def test_parameters_that_are_not_finite_are_told(grader, language):
    case, params = language
    broken = map_leaves(lambda p: p * np.nan, params)
    assert "not finite" in judged(grader, case, broken)


def test_a_gradient_that_is_right_with_a_context_counts_there(grader):
    """The cost is measured on self attention, whose dx is wrong here."""
    modules = grader.plan().modules
    text = modules.all["multi_head_attention"].text
    wrong = text.replace("dx, dcontext = dx + dcontext, None", "dx, dcontext = dx, None")
    assert wrong != text
    files = {"multi_head_attention.py": wrong.encode()}
    grade = grader.grade("someone", files, tasks=["multi_head_attention"])
    earned = {r.name: r.earned for r in grade.results if r.task == "multi_head_attention"}
    assert earned["context"] == 3
    assert earned["dx"] == 0

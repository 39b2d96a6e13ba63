"""Each attack scores zero, with a reason that says what happened; it costs nobody else."""

import os
from dataclasses import replace

import pytest

from minillm.course.manifest import load
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox
from tests.course.attacks import ATTACKS, RIGHT, RIGHT_BACK, Attack, hard_coded

TIERS = ["uid", "same"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["same"]
STRENGTH = {"same": 0, "uid": 1}
HW3 = load("hw3")
QUICK = replace(HW3, tasks=tuple(replace(task, seconds=0.5) for task in HW3.tasks))


@pytest.fixture(scope="module", params=TIERS)
def sandbox(request):
    with Sandbox(tier=request.param) as found:
        yield found


def softmax_results(sandbox, attack, seed=1):
    grader = Grader(QUICK, sandbox, seed=seed, explained=False)
    checks = grader.plan().checks
    checks["softmax"] = [run for run in checks["softmax"] if run.name in attack.checks]
    grade = grader.grade("attacker", {"softmax.py": attack.text.encode()}, tasks=["softmax"])
    return {r.name: r for r in grade.results if r.task == "softmax"}


def test_the_same_file_without_an_attack_has_all_points(sandbox):
    found = softmax_results(sandbox, Attack("honest", "", RIGHT, RIGHT_BACK))
    assert {r.status for r in found.values()} == {"holds"}, found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_scores_zero(sandbox, attack):
    if STRENGTH[sandbox.tier] < STRENGTH[attack.tier]:
        pytest.skip(f"stopped from tier {attack.tier} on")
    found = softmax_results(sandbox, attack)
    for name in attack.checks:
        result = found[name]
        assert result.earned == 0, (name, result)
        assert result.status in attack.statuses, result
        assert result.reason, result
    assert any(attack.says in found[name].reason for name in attack.checks), found


def test_answers_to_the_public_seed_are_worth_nothing_on_another(sandbox):
    public = Grader(QUICK, sandbox, seed=0, explained=False)
    attack = hard_coded(public, public.plan())
    known = softmax_results(sandbox, attack, seed=0)
    assert known["forward"].status == known["dx"].status == "holds", known
    found = softmax_results(sandbox, attack, seed=2)
    assert {r.earned for r in found.values()} == {0}
    assert all(attack.says in r.reason for r in found.values()), found


def test_an_attack_costs_only_its_own_checks(sandbox):
    """What one check does to its process, the next one does not feel."""
    dies = RIGHT.replace("    w", "    if x.size > 100: os._exit(0)\n    w", 1)
    found = softmax_results(sandbox, Attack("", "", dies, RIGHT_BACK))
    assert found["forward"].status == "holds", found
    assert found["cost"].status == "crashed"
    assert found["dx"].earned == 0, "a gradient that was not seen at scale counts nothing"
    dies = RIGHT_BACK + ".astype(np.float16) if dy.dtype == np.float32 else os._exit(0)"
    found = softmax_results(sandbox, Attack("", "", RIGHT, dies))
    assert found["forward"].status == "holds", found
    assert found["dx"].status == "crashed"

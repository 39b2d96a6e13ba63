"""What the self-test counts, prints and returns. The whole of it runs in test_catalogue.py."""

import json
from functools import partial

import pytest

import minillm
from minillm import ops
from minillm.gradcheck import awkward, selftest
from minillm.gradcheck.catalogue import Wrong, load
from minillm.gradcheck.report import Diagnosis, LeafResult, Report
from minillm.ops._state import Registry

ENTRIES = [entry for entry in load() if entry.op in ("linear", "softmax")]


def pairs(op):
    return Registry.pair(op, "numpy")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    few = [family for family in awkward.load() if family.name in ("zero.constant", "zero.unused")]
    assert len(few) == 2
    monkeypatch.setattr(awkward, "load", lambda: few)
    with minillm.backend("numpy"):
        yield


@pytest.fixture
def saying(monkeypatch):
    """Puts a checker in place that says the same of everything in the catalogue."""

    def put(verdict, *diagnoses):
        def check(*pair, seed, **options):
            leaf = LeafResult("x", (3,), "float64", verdict)
            return Report("f", seed, "default", [leaf], diagnoses=list(diagnoses))

        monkeypatch.setattr(selftest, "check_vjp", check)

    return put


def run(**options):
    printed = []
    options = {"entries": ENTRIES, "seeds": (5,)} | options
    return selftest.run(ops, pairs, printed.append, **options), "\n".join(printed)


def test_all_caught():
    code, text = run()
    assert code == 0, text
    assert f"{len(ENTRIES)} backwards known to be wrong, {len(ENTRIES)} checks:" in text
    assert "2 checks of right backwards:" in text
    assert "4 checks of right but awkward functions:" in text
    assert "4 of them where a gradient is truly zero" in text
    assert "all as it should be" in text


def test_json_says_the_same():
    code, text = run(json=True, seeds=(5, 6))
    found = json.loads(text)
    assert (code, found["verdict"]) == (0, "pass")
    wrong = found["wrong"]
    assert wrong["backwards"] == len(ENTRIES)
    assert wrong["checks"] == 2 * len(ENTRIES) == wrong["caught"] + len(wrong["right_there"])
    assert wrong["caught"] == wrong["named"] + len(wrong["misnamed"])
    assert wrong["missed"] == wrong["inconclusive"] == found["right"]["refused"] == []
    assert found["right"]["checks"] == 4


def test_a_blind_checker_misses_all_and_each_is_named(saying):
    saying("pass")
    code, text = run()
    assert code == 1
    assert "caught                0 of" in text
    for entry in ENTRIES:
        assert f"wrong, but passed: {entry.op}.{entry.name} (seed 5)" in text
    assert "NOT as it should be" in text


def test_a_checker_that_commits_itself_to_nothing_does_not_pass(saying):
    saying("inconclusive")
    code, text = run()
    assert code == 1
    assert f"wrong, but inconclusive: softmax.{softmax_entry().name} (seed 5)" in text


def test_a_checker_that_refuses_all_does_not_pass(saying):
    said = Diagnosis("sign", None, "", 0.9)
    saying("fail", said)
    code, text = run()
    assert code == 1
    assert f"caught            {len(ENTRIES):>5} of {len(ENTRIES)}" in text
    assert "right, but refused: linear (seed 5)" in text
    signs = sum("sign" in entry.causes for entry in ENTRIES)
    assert f"named rightly     {signs:>5} of {len(ENTRIES)}" in text


def test_an_awkward_one_refused_does_not_pass(monkeypatch):
    def case(rng, dtype):
        return awkward.Case(
            partial(selftest.check_vjp, lambda x: (x**2, x), lambda d, x: d * x, (rng.random(3),))
        )

    family = awkward.Family("lie.square", case, "", 0.0, (), "")
    monkeypatch.setattr(awkward, "load", lambda: [family])
    code, text = run()
    assert code == 1
    assert "right, but refused: lie.square float64 (seed 5)" in text


def softmax_entry():
    return next(entry for entry in ENTRIES if entry.op == "softmax")


def test_what_is_right_at_its_point_is_counted_apart():
    entry = softmax_entry()
    harmless = Wrong(
        "softmax", "harmless", lambda d, y, o: o.right(d, y), entry.case, ("sign",), ""
    )
    code, text = run(entries=[harmless, entry])
    assert code == 0, text
    assert "caught                1 of 1" in text
    assert "not counted           1, proven right at their point" in text


def test_progress_wraps_the_cases():
    seen = []

    def progress(cases):
        for case in cases:
            seen.append(case.name)
            yield case

    run(progress=progress)
    assert len(seen) == len(ENTRIES) + 2 + 4


def test_the_same_seed_draws_the_same_point():
    first, again = (list(selftest.wrong_cases(ops, pairs, 3, ENTRIES)) for _ in range(2))
    other = next(selftest.wrong_cases(ops, pairs, 4, ENTRIES))
    assert all((a.pair.args[0] == b.pair.args[0]).all() for a, b in zip(first, again, strict=True))
    assert other.pair.args[0].tobytes() != first[0].pair.args[0].tobytes()

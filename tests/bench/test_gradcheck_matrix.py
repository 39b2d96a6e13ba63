from pathlib import Path

import numpy as np
import pytest

import minillm.tree
from minillm import ops
from minillm.bench import gradcheck_matrix, gradient_checkers
from minillm.gradcheck.catalogue import load
from minillm.gradcheck.selftest import Pair, right_cases

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "gradcheck-matrix.md"
CHOSEN = {
    ("softmax", "all_zeros"),
    ("relu", "gated_in_place"),
    ("linear", "bias_not_summed"),
    ("layer_norm", "gain_and_bias_swapped"),
}


@pytest.fixture(scope="module")
def measured():
    entries = [entry for entry in load() if (entry.op, entry.name) in CHOSEN]
    assert len(entries) == len(CHOSEN)
    return gradcheck_matrix.measure(entries, seeds=1)


def test_each_tool_catches_what_it_can(measured):
    wrong, right = measured
    caught = {
        row.name: {tool for tool in gradcheck_matrix.TOOLS if row.count(tool)} for row in wrong
    }
    everyone = set(gradcheck_matrix.TOOLS)
    assert caught["gain_and_bias_swapped"] == everyone
    assert caught["all_zeros"] == everyone - {"ones"}
    # writing to the upstream gradient changes no number; torch's engine sums over the rows itself
    assert caught["gated_in_place"] == {"ours", "ours, full"}
    assert caught["bias_not_summed"] == everyone - {"torch fast", "torch slow"}
    assert [row.count(tool) for row in right for tool in gradcheck_matrix.TOOLS] == [0] * 24


def test_evaluations_are_counted(measured):
    _, right = measured
    for row in right:
        calls = {tool: numbers[0] for tool, numbers in row.evaluations.items()}
        assert min(calls["ours, full"], calls["torch slow"], calls["ones"]) > calls["ours"]
        assert 0 < calls["torch fast"] < calls["torch slow"]


def test_the_page_holds_what_was_measured(measured, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gradcheck_matrix, "measure", lambda **_: measured)
    sizes = [((8, 64), {"ours": 20, "torch fast": 0})], 20
    monkeypatch.setattr(gradcheck_matrix, "measure_sizes", lambda: sizes)
    file = tmp_path / "page.md"
    assert gradcheck_matrix.main(["--out", str(file), "--seeds", "1"]) == 0
    text = file.read_text(encoding="utf-8")
    assert "| wrong backwards caught, of 4 checks | 4 | 4 | 2 | 2 | 2 | 3 |" in text
    assert "| right backwards refused, of 4 checks | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| (8, 64) | 20 | 0 |" in text
    assert "| ours | nothing |" in text
    assert "| random | relu.gated_in_place |" in text
    assert "| [softmax](#softmax) | 1 | 1/1 | 1/1 | 1/1 | 1/1 | **0/1** | 1/1 |" in text
    for row in measured[0]:
        assert f"| `{row.name}`: " in text
        assert f"### {row.op}\n" in text
    assert gradcheck_matrix.main(["--seeds", "1"]) == 0
    assert capsys.readouterr().out == text


def test_mistakes_of_the_user(monkeypatch, tmp_path, capsys, measured):
    with pytest.raises(SystemExit) as stop:
        gradcheck_matrix.main(["--seeds", "0"])
    assert stop.value.code == 2
    monkeypatch.setattr(gradcheck_matrix, "measure", lambda **_: measured)
    monkeypatch.setattr(gradcheck_matrix, "measure_sizes", lambda: ([((8, 64), {"ours": 1})], 1))
    missing = tmp_path / "missing" / "page.md"
    assert gradcheck_matrix.main(["--out", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err


@pytest.mark.parametrize("op", ["lstm", "cross_entropy", "embedding", "linear"])
def test_torch_is_given_nests_scalars_and_several_outputs_as_they_are(op):
    """A right pair passes, and one that is off by a thousandth in its last leaf does not."""
    with minillm.backend("numpy"):
        entries = [entry for entry in load() if entry.op == op]
        (case,) = right_cases(ops, gradcheck_matrix.pairs, 0, entries)
        pair, tool = case.pair, gradient_checkers.torch_gradcheck(fast=False)

        def off(dout, cache):
            grads = pair.backward(dout, cache)
            *_, last = (leaf for _, leaf in minillm.tree.leaves(grads))
            last *= 1.01
            return grads

        assert tool(pair, 0).verdict == "pass"
        assert tool(Pair(pair.forward, off, pair.args, pair.kwargs), 0).verdict == "fail"


def test_larger_arrays_hide_a_mistake_from_the_fast_mode():
    found, seeds = gradcheck_matrix.measure_sizes(sizes=((8, 64),), seeds=5)
    ((shape, caught),) = found
    assert (shape, seeds) == ((8, 64), 5)
    assert caught["ours"] == 5
    assert caught["torch fast"] < 5


def test_a_gradient_that_cannot_be_compared_is_caught_by_the_plain_ones():
    x = np.arange(6.0).reshape(2, 3)
    for wrong in (lambda d, cache: None, lambda d, cache: d[:, :2]):
        pair = Pair(lambda x: (x**2, x), wrong, (x,), {})
        assert gradient_checkers.plain(ones=False)(pair, 0).verdict == "fail"


def test_the_page_in_docs_has_every_entry():
    text = PAGE.read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n### ")[1:])
    missing = [
        f"{entry.op}.{entry.name}"
        for entry in load()
        if f"\n| `{entry.name}`: " not in sections.get(entry.op, "")
    ]
    assert not missing, f"run `make matrix`: docs/gradcheck-matrix.md lacks {missing}"

"""Both sides of the metrics' comparisons do the same work."""

import pytest

from minillm.bench import classical_ours_metrics as ours
from minillm.bench import classical_peers_metrics as peers


@pytest.mark.parametrize(
    ("name", "options"),
    [("bleu", {}), ("bleu", {"cached": True}), ("chrf", {"word_order": 2}), ("ter", {})],
)
def test_scores_are_equal(name, options):
    work, pieces = getattr(ours, name)(1, pairs=10, **options)
    theirs, same = getattr(peers, name)(1, pairs=10, **options)
    assert pieces == same == 1
    assert work().score == pytest.approx(theirs().score, abs=1e-9)
    assert theirs().score == pytest.approx(work().score, abs=1e-9)  # and again


@pytest.mark.parametrize("stem", [False, True])
def test_rouge_is_equal(stem):
    options = {"pairs": 6, "types": ["rouge2", "rougeLsum"], "stem": stem}
    work, _ = ours.rouge(1, **options)
    theirs, _ = peers.rouge(1, **options)
    wanted = theirs()
    assert {name: score.f for name, score in work().items()} == pytest.approx(wanted, abs=1e-9)


def test_the_pairs_are_alike_and_the_same_each_time():
    hypotheses, references = ours.edited_pairs(20, sentences=3)
    assert (hypotheses, references) == ours.edited_pairs(20, sentences=3)
    assert hypotheses != references
    assert all(text.count("\n") == 2 for text in references + hypotheses)

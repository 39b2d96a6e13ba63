import random

import numpy as np
import pytest
import sacrebleu.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.lib_ter import translation_edit_rate

import minillm
from minillm.errors import UserError
from minillm.metrics.edit_distance import EditDistance, beam_distance, beam_rows
from minillm.metrics.ter import edits, ter, ter_from_statistics, ter_statistics
from minillm.metrics.ter_tokenize import ter_tokenize
from tests.metrics import texts

MANY = settings(max_examples=60)
FLAGS = ("normalized", "no_punct", "asian_support", "case_sensitive")


def same_as_peer(hypotheses, references, **options):
    peer = sacrebleu.metrics.TER(**options)
    score = peer.corpus_score(hypotheses, texts.streams(references))
    result = ter(hypotheses, references, **options)
    assert result.score == pytest.approx(score.score, abs=1e-9)
    assert result.edits == score.num_edits
    assert result.reference_length == pytest.approx(score.ref_length, abs=1e-9)
    ours = str(result).replace(f"minillm-{minillm.__version__}", sacrebleu.__version__)
    assert ours == score.format(signature=str(peer.get_signature()))


def test_by_hand():
    assert edits(list("abcd"), list("abcd")) == 0
    assert edits(list("axc"), list("abcd")) == 2  # one replaced, one inserted
    assert edits(list("cdab"), list("abcd")) == 1  # a run moved
    # Snover et al. 2006, section 2: a shift of two words, two replacements, an insertion
    hypothesis = "this week the saudis denied information published in the new york times"
    reference = "saudi arabia denied this week information published in the american new york times"
    assert edits(hypothesis.split(), reference.split()) == 4
    assert ter([hypothesis], [reference]).score == pytest.approx(100 * 4 / 13)
    # the mean length of the references, the edits to the nearest
    result = ter(["a b c"], [["a b c", "x y z v w"]])
    assert (result.edits, result.reference_length, result.score) == (0, 4.0, 0.0)


@MANY
@given(texts.segments(), st.sets(st.sampled_from(FLAGS)))
def test_equals_sacrebleu_on_any_text(given, flags):
    same_as_peer(*given, **dict.fromkeys(flags, True))


def test_equals_sacrebleu_on_real_text():
    hypotheses, references = texts.real_segments(60)
    assert 10 < ter(hypotheses, references).score < 60
    for flags in ((), ("normalized", "case_sensitive"), ("no_punct",)):
        same_as_peer(hypotheses[:16], references[:16], **dict.fromkeys(flags, True))


def long_pair(seed):
    """A reference, and a hypothesis made of runs of its words and of any words."""
    rng = random.Random(seed)
    size, kinds = rng.choice([5, 30, 60, 110]), rng.choice([2, 5, 20, 100, 300])
    reference = [rng.randrange(kinds) for _ in range(size)]
    hypothesis = []
    while len(hypothesis) < size * rng.choice([0.5, 1, 1, 1.5]) and len(hypothesis) < 150:
        start, run = rng.randrange(size), rng.randrange(1, 20)
        if rng.random() < 0.8:
            hypothesis += reference[start : start + run]
        else:
            hypothesis += [rng.randrange(kinds) for _ in range(run)]
    return hypothesis, reference


# Pairs that tell the search from one with another limit on candidates (7), without the beam or with
# a wider one (11, 76), with runs of 11 or 9 words (17, 18), shifts of 51 or 49 (27, 115), shifts
# within the run itself (50), or insertions before deletions (211); and what sacrebleu 2.6 finds.
@pytest.mark.parametrize(
    ("seed", "wanted"),
    [(7, 31), (11, 61), (17, 70), (18, 12), (27, 79), (50, 66), (76, 65), (115, 23), (211, 24)],
)
def test_edits_of_texts_that_meet_the_limits(seed, wanted):
    assert edits(*long_pair(seed)) == wanted


def test_edits_equal_sacrebleus_and_the_plain_table():
    pairs = [long_pair(seed) for seed in range(300, 325)]
    pairs = [(hypothesis, reference) for hypothesis, reference in pairs if len(reference) <= 30]
    assert len(pairs) > 5
    # a reference so much longer that the band is wider, and not wide enough for its seventh word
    for hypothesis, reference in [*pairs, ([7, 150], list(range(200)))]:
        found = edits(hypothesis, reference)
        assert found == translation_edit_rate(hypothesis, reference)[0]
        assert found == edits(hypothesis, reference, simple=True)


words = st.lists(st.sampled_from("abcd"), max_size=40)


@MANY
@given(words, words.filter(bool))
def test_integers_give_the_table_where_its_band_holds_the_way(hypothesis, reference):
    distance = EditDistance(reference)
    cost = distance.states(hypothesis)[-1][-1]
    beam = beam_distance(hypothesis, reference)
    assert cost <= beam
    if distance.in_band(hypothesis, cost):
        assert cost == beam
    # from the middle on
    half = len(hypothesis) // 2
    assert distance.states(hypothesis, distance.states(hypothesis[:half]))[-1][-1] == cost
    rows = beam_rows(hypothesis, reference)
    assert beam_rows(hypothesis, reference, rows[: half + 1]) == rows


def test_the_beam_misses_what_is_far_from_the_diagonal():
    reference = [*range(60), *"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"]
    hypothesis = reference[60:] + reference[:60]
    distance = EditDistance(reference)
    cost = distance.states(hypothesis)[-1][-1]
    assert not distance.in_band(hypothesis, cost)
    assert cost < beam_distance(hypothesis, reference)


@MANY
@given(texts.texts, st.sets(st.sampled_from(FLAGS)))
def test_words_are_sacrebleus(text, flags):
    options = dict.fromkeys(flags, True)
    peer = sacrebleu.metrics.TER(**options).tokenizer
    assert ter_tokenize(text, **options) == peer(text.rstrip()).split()


@MANY
@given(texts.segments(), st.randoms())
def test_facts(given, random):
    hypotheses, references = given
    assert ter(hypotheses, hypotheses).score == 0
    rows = ter_statistics(hypotheses, references)
    order = random.sample(range(len(hypotheses)), len(hypotheses))
    again = ter_statistics([hypotheses[i] for i in order], [references[i] for i in order])
    np.testing.assert_array_equal(again, rows[order])
    # no better than the words that differ in number, no worse than doing all anew
    for hypothesis, several, (count, _) in zip(hypotheses, references, rows, strict=True):
        sizes = [(len(ter_tokenize(hypothesis)), len(ter_tokenize(r))) for r in several]
        assert min(abs(h - r) for h, r in sizes) <= count <= min(max(pair) for pair in sizes)


def test_empty_texts():
    assert ter([""], [""]).score == 0
    assert ter(["a b"], [""]).score == 100
    assert ter([""], ["a b"]).score == 100
    assert ter_from_statistics([3, 2]).score == 150


def test_a_reference_is_normalised_twice_as_in_sacrebleu():
    text = "**= *** ..5 ..5=*="
    assert ter([text], [text], normalized=True).edits == 4
    same_as_peer([text], [[text]], normalized=True)


def test_progress_and_wrong_input():
    done = []
    ter(["a", "b"], ["a", "c"], progress=lambda *at: done.append(at))
    assert done == [(1, 2), (2, 2)]
    with pytest.raises(UserError, match="got 2 hypotheses and references for 1"):
        ter(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="normalised"):
        ter_statistics(["a"], ["a"], normalised=True)

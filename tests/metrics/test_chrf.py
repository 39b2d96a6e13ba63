import math
import re

import numpy as np
import pytest
import sacrebleu.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.errors import UserError
from minillm.metrics import segments
from minillm.metrics.chrf import chrf, chrf_from_statistics, chrf_statistics
from minillm.metrics.chrf_simple import chrf_simple
from tests.metrics import texts

MANY = settings(max_examples=60)
PLUS_PLUS = {"word_order": 2}


def same_as_peer(hypotheses, references, **options):
    peer = sacrebleu.metrics.CHRF(**options)
    score = peer.corpus_score(hypotheses, texts.streams(references))
    result = chrf(hypotheses, references, **options)
    assert result.score == pytest.approx(score.score, abs=1e-9)
    ours = str(result).replace(f"minillm-{minillm.__version__}", sacrebleu.__version__)
    assert ours == score.format(signature=str(peer.get_signature()))


def test_by_hand():
    # characters: 2 of 3 and 2 of 4; P = 2/3, R = 1/2, beta 2: 5 P R / (4 P + R)
    result = chrf(["a b x"], ["a b c d"], char_order=1)
    assert result.score == pytest.approx(100 * 5 * (1 / 3) / (8 / 3 + 1 / 2))


@MANY
@given(
    texts.segments(),
    st.sampled_from([(6, 0), (6, 2), (1, 1), (0, 3), (3, 0)]),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equals_sacrebleu_on_any_text(given, orders, beta, lowercase, whitespace, eps_smoothing):
    same_as_peer(
        *given,
        char_order=orders[0],
        word_order=orders[1],
        beta=beta,
        lowercase=lowercase,
        whitespace=whitespace,
        eps_smoothing=eps_smoothing,
    )


@pytest.mark.parametrize("options", [{}, PLUS_PLUS, {"eps_smoothing": True, "whitespace": True}])
def test_equals_sacrebleu_on_real_text(options):
    hypotheses, references = texts.real_segments(40)
    same_as_peer(hypotheses, references, **options)
    settings = {"eps_smoothing": options.get("eps_smoothing", False)}
    scores = chrf_from_statistics(chrf_statistics(hypotheses, references, **options), **settings)
    peer = sacrebleu.metrics.CHRF(**options)
    for hypothesis, several, score in zip(hypotheses[:10], references, scores, strict=False):
        assert score == pytest.approx(peer.sentence_score(hypothesis, several).score, abs=1e-9)


def test_of_equally_good_references_the_same_is_taken():
    # both come to the same F but for rounding, and have other numbers of n-grams
    same_as_peer(
        ["ナ  !㼢ナ㼢ナ 㼢!  ナ㼢", "本7龻本本 "],
        [["ナ  !㼢ナ㼢7㼢!  ナ㼢"], ["本n\xa0龻本本 ", ".本7k本👧", "本b2龻本本 "]],
        word_order=3,
        whitespace=True,
        eps_smoothing=True,
    )


def test_lone_surrogates_are_characters_like_any_other():
    same_as_peer(["a \ud800 b \udfff\ud83d"], [["a \ud800 b"]], word_order=2)


@MANY
@given(texts.segments())
def test_equals_the_formula(given):
    hypotheses, references = given
    first = [several[0] for several in references]
    score = chrf(hypotheses, first).score
    assert score == pytest.approx(chrf_simple(hypotheses, first), abs=1e-9)


@MANY
@given(texts.segments(), st.randoms())
def test_facts(given, random):
    hypotheses, references = given
    score = chrf(hypotheses, references, **PLUS_PLUS).score
    assert 0 <= score <= 100 + 1e-9
    order = random.sample(range(len(hypotheses)), len(hypotheses))
    shuffled = chrf([hypotheses[i] for i in order], [references[i] for i in order], **PLUS_PLUS)
    assert shuffled.score == score
    full = [h + "." for h in hypotheses]
    assert chrf(full, full, **PLUS_PLUS).score == pytest.approx(100, abs=1e-9)
    # precision and recall change places with the two sides, and with beta 1 weigh the same; of
    # texts shorter than the longest n-gram, the hypothesis's lengths that the reference lacks go
    ours, theirs = ([t + "longer" for t in side] for side in (hypotheses, map(max, references)))
    there, back = chrf(ours, theirs, beta=1), chrf(theirs, ours, beta=1)
    assert there.score == pytest.approx(back.score, abs=1e-9)


def test_one_segment_after_the_other_is_all_at_once(monkeypatch):
    hypotheses, references = texts.real_segments(20)
    whole = chrf_statistics(hypotheses, references, **PLUS_PLUS)
    monkeypatch.setattr(segments, "CHUNK", 500)
    parts = chrf_statistics(hypotheses, references, **PLUS_PLUS)
    np.testing.assert_array_equal(parts, whole)


def test_empty_texts_score_nothing():
    for pair in (([""], ["a"]), (["a"], [""]), ([""], [""])):
        assert chrf(*pair).score == 0


def test_wrong_input_is_named():
    with pytest.raises(UserError, match="got 2 hypotheses and references for 1"):
        chrf(["a", "b"], ["a"])
    for order in (-1, 1.5, True, None):
        for name in ("char_order", "word_order"):
            with pytest.raises(UserError, match=f"{name} .* got {order}"):
                chrf(["a"], ["a"], **{name: order})
    with pytest.raises(UserError, match="must not both be 0"):
        chrf(["a"], ["a"], char_order=0)
    for beta in (0, -1, math.nan, math.inf, 1e200, 10**400, "2", True, None):
        with pytest.raises(UserError, match=f"beta must .* got {re.escape(repr(beta))}"):
            chrf(["a"], ["a"], beta=beta)


def test_numbers_of_numpy_are_numbers():
    given = {"char_order": 3, "word_order": 2, "beta": 100}
    ours = {"char_order": np.int64(3), "word_order": np.int8(2), "beta": np.int8(100)}
    assert chrf(["a b"], ["a c"], **given) == chrf(["a b"], ["a c"], **ours)


def test_with_all_weight_on_it_recall_is_the_score():
    assert chrf(["abc"], ["abcd"], char_order=1, beta=1e99).score == pytest.approx(75)
    assert chrf(["abc"], ["abcd"], char_order=1, beta=1e-200).score == pytest.approx(100)

import logging
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score import tokenize as peers_tokenize
from rouge_score.rouge_scorer import RougeScorer

from minillm.errors import UserError
from minillm.metrics import segments
from minillm.metrics.lcs import lcs_length, lcs_places, masks_of
from minillm.metrics.rouge import rouge, rouge_statistics
from minillm.metrics.rouge_simple import lcs_path, lcs_table, rouge_l, rouge_lsum, rouge_n
from minillm.metrics.rouge_tokenize import rouge_words
from tests.metrics import texts

logging.getLogger("absl").setLevel(logging.WARNING)
MANY = settings(max_examples=60)
TYPES = ("rouge1", "rouge2", "rouge5", "rougeL", "rougeLsum")
CHINESE = "今天天气很好,我们去公园散步。\n孩子们在湖边放风筝。"

english = st.lists(
    st.sampled_from([*"abcde", "running", "flies", "Policies", "agreed", ".", "\n", "\n", "é"]),
    max_size=25,
).map(" ".join)


@st.composite
def summaries(draw):
    hypotheses = draw(st.lists(english | texts.texts, min_size=1, max_size=3))
    several = st.lists(english | texts.texts | st.sampled_from(hypotheses), min_size=1, max_size=3)
    return hypotheses, [draw(several) for _ in hypotheses]


def same_as_peer(hypotheses, references, types, stem):
    peer = RougeScorer(types, use_stemmer=stem)
    found = rouge_statistics(hypotheses, references, types=types, stem=stem)
    assert list(found) == list(types)
    pairs = zip(references, hypotheses, strict=True)
    wanted = [peer.score_multi(several, hypothesis) for several, hypothesis in pairs]
    means = rouge(hypotheses, references, types=types, stem=stem)
    for name in types:
        np.testing.assert_allclose(found[name], [w[name] for w in wanted], rtol=0, atol=1e-9)
        mean = means[name]
        np.testing.assert_allclose(
            (mean.precision, mean.recall, mean.f), np.mean([w[name] for w in wanted], 0), atol=1e-9
        )


def test_by_hand():
    # Lin 2004, section 3.1: the candidates share "police the gunman" and "the gunman"
    reference = "police killed the gunman"
    results = rouge(
        ["police kill the gunman", "the gunman kill police"], [reference] * 2, types=["rougeL"]
    )
    assert results["rougeL"].f == pytest.approx((3 / 4 + 2 / 4) / 2)
    # section 3.2: w1 w2 w3 w4 w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: union w1 w2 w3 w5
    results = rouge(["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"], ["w1 w2 w3 w4 w5"], types=["rougeLsum"])
    assert results["rougeLsum"].recall == pytest.approx(4 / 5)
    results = rouge(["a a a b"], ["a a c"], types=["rouge1", "rouge2"])
    assert (results["rouge1"].precision, results["rouge1"].recall) == (2 / 4, 2 / 3)
    assert str(results["rouge2"]).startswith("rouge2|nrefs:1|tok:rouge|stem:no|version:minillm-")
    assert str(results["rouge2"]).endswith(" = 0.4000 (P = 0.3333 R = 0.5000)")


@MANY
@given(summaries(), st.lists(st.sampled_from(TYPES), min_size=1, unique=True), st.booleans())
def test_equals_rouge_score_on_any_text(given, types, stem):
    same_as_peer(*given, types, stem)


@pytest.mark.parametrize("stem", [False, True])
def test_equals_rouge_score_on_real_text(stem):
    hypotheses, references = texts.real_segments(12, sentences=3)
    same_as_peer(hypotheses, references, TYPES, stem)


@MANY
@given(english | texts.texts, st.booleans())
def test_words_are_rouge_scores(text, stem):
    wanted = peers_tokenize.tokenize(text, PorterStemmer() if stem else None)
    assert [word for line in rouge_words(text, stem=stem) for word in line] == wanted


def test_any_length_of_ngram():
    text = " ".join(map(str, range(20)))
    found = rouge([text], [text + " end"], types=["rouge12", "rouge20", "rouge21"])
    assert found["rouge12"].recall == 9 / 10
    assert found["rouge20"].recall == 1 / 2
    assert found["rouge21"].f == 0


def test_chinese_against_itself():
    ours = rouge([CHINESE], [CHINESE], tokenizer="unicode")
    assert all(score.f == 1 for score in ours.values())
    assert all(score.f == 0 for score in rouge([CHINESE], [CHINESE]).values())
    nearly = rouge(
        ["今天天气好"], ["今天天气很好"], tokenizer="unicode", types=["rouge1", "rougeL"]
    )
    assert (nearly["rouge1"].precision, nearly["rouge1"].recall) == (1, 5 / 6)
    assert (nearly["rougeL"].precision, nearly["rougeL"].recall) == (1, 5 / 6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ein Käse, drei_vier 3,5!", "ein käse drei vier 3 5"),
        ("我用Python3写代码。", "我 用 python3 写 代 码"),
        ("カーテンをあける", "カ ー テ ン を あ け る"),
        ("한국어 문장", "한국어 문장"),
        ("นี่", "นี่"),
        ("e\u0301te\u0301 हिन्दी", "e\u0301te\u0301 हिन्दी"),
        ("𠀀𠀁 😀", "𠀀 𠀁"),
    ],
)
def test_words_of_any_script(text, words):
    assert rouge_words(text, "unicode") == [words.split()]


@MANY
@given(st.text(st.characters(max_codepoint=127)), st.booleans())
def test_both_tokenizers_agree_on_ascii(text, stem):
    assert rouge_words(text, "unicode", stem=stem) == rouge_words(text, "rouge", stem=stem)


@MANY
@given(english, english)
def test_equals_the_formulas(hypothesis, reference):
    ours, theirs = rouge_words(hypothesis), rouge_words(reference)
    h, r = ([word for line in lines for word in line] for lines in (ours, theirs))
    wanted = {
        "rouge1": rouge_n(h, r, 1),
        "rouge3": rouge_n(h, r, 3),
        "rougeL": rouge_l(h, r),
        "rougeLsum": rouge_lsum(ours, theirs),
    }
    found = rouge_statistics([hypothesis], [reference], types=list(wanted))
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name][0], values, atol=1e-12)


words = st.lists(st.integers(0, 5), max_size=90)


@settings(max_examples=150)
@given(words, words)
def test_subsequences_in_integers_are_those_of_the_table(a, b):
    masks = masks_of(b)
    assert lcs_length(a, masks, len(b)) == lcs_table(a, b)[-1][-1]
    assert lcs_places(a, masks, len(b)) == lcs_path(a, b)


@MANY
@given(summaries(), st.randoms(), st.sampled_from(["rouge", "unicode"]))
def test_facts(given, random, tokenizer):
    hypotheses, references = given
    rows = rouge_statistics(hypotheses, references, tokenizer=tokenizer)
    order = random.sample(range(len(hypotheses)), len(hypotheses))
    again = rouge_statistics(
        [hypotheses[i] for i in order], [references[i] for i in order], tokenizer=tokenizer
    )
    for name, values in rows.items():
        assert ((values >= 0) & (values <= 1)).all()
        np.testing.assert_array_equal(again[name], values[order])
    # texts change places, and precision with recall; not so for Lsum, whose union is of one side
    first = [several[0] for several in references]
    for name in ("rouge1", "rouge2", "rougeL"):
        there = rouge_statistics(hypotheses, first, types=name, tokenizer=tokenizer)[name]
        back = rouge_statistics(first, hypotheses, types=name, tokenizer=tokenizer)[name]
        np.testing.assert_allclose(there, back[:, [1, 0, 2]], atol=1e-12)
    full = [h + " two words" for h in hypotheses]
    assert all(score.f == 1 for score in rouge(full, full, tokenizer=tokenizer).values())


def test_one_segment_after_the_other_is_all_at_once(monkeypatch):
    hypotheses, references = texts.real_segments(12, sentences=3)
    whole = rouge_statistics(hypotheses, references)
    done = []
    monkeypatch.setattr(segments, "CHUNK", 500)
    parts = rouge_statistics(hypotheses, references, progress=lambda *at: done.append(at))
    assert done[-1] == (12, 12)
    assert len(done) > 3
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


def test_empty_texts_score_nothing():
    for pair in (([""], ["a"]), (["a"], [""]), ([""], [""]), (["\n\n"], ["a\n"])):
        assert all(score.f == 0 for score in rouge(*pair).values())


def test_wrong_input_is_named(monkeypatch):
    with pytest.raises(UserError, match="got 2 hypotheses and references for 1"):
        rouge(["a", "b"], ["a"])
    for name in ("rouge0", "rouge", "rougeX", "rouge1x", "rougeLSum", 1, None):
        with pytest.raises(UserError, match=f"no ROUGE {name!r}; there are: rouge1"):
            rouge(["a"], ["a"], types=[name])
    with pytest.raises(UserError, match="no ROUGE tokenizer '13a'; there are: rouge, unicode"):
        rouge(["a"], ["a"], tokenizer="13a")
    with pytest.raises(ValueError, match="types must be a list, got NoneType"):
        rouge(["a"], ["a"], types=None)
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(UserError, match="needs NLTK"):
        rouge(["a"], ["a"], stem=True)

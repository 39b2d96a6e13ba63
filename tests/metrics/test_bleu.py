import math
import re

import numpy as np
import pytest
import sacrebleu.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.errors import UserError
from minillm.metrics import ngram_overlap, segments
from minillm.metrics.bleu import BLEU, SMOOTHINGS, bleu, bleu_from_statistics, bleu_statistics
from minillm.metrics.bleu_simple import bleu_simple, segment_statistics
from minillm.metrics.bleu_tokenize import TOKENIZERS, tokenize, tokenize_all
from tests.metrics import texts

MANY = settings(max_examples=60)
CAT = "the cat is on the mat"


def same_as_peer(result, peer, score):
    assert result.score == pytest.approx(score.score, abs=1e-9)
    assert result.precisions == pytest.approx(score.precisions, abs=1e-9)
    assert result.brevity_penalty == pytest.approx(score.bp, abs=1e-9)
    assert (result.hypothesis_length, result.reference_length) == (score.sys_len, score.ref_len)
    theirs = score.format(signature=str(peer.get_signature()))
    ours = str(result).replace(f"minillm-{minillm.__version__}", sacrebleu.__version__)
    assert ours.replace(f"|order:{peer.max_ngram_order}|", "|") == theirs


def test_by_hand():
    # Papineni et al. 2002, section 2.1: of seven times "the" the reference allows two
    result = bleu(["the the the the the the the"], ["the cat is on the mat"], max_order=1)
    assert (result.counts, result.totals) == ((2,), (7,))
    assert result.score == pytest.approx(200 / 7)
    # three of four words, brevity exp(1 - 6 / 4)
    result = bleu(["the cat sat on"], [CAT], max_order=1)
    assert result.brevity_penalty == pytest.approx(math.exp(-0.5))
    assert result.score == pytest.approx(75 * math.exp(-0.5))
    # no n-gram longer than two: left out, or nothing
    assert bleu(["a b"], ["a b"], effective_order=True).score == pytest.approx(100)
    assert bleu(["a b"], ["a b"]).score == 0
    # the nearest length, the shorter of two that are as near
    result = bleu(["a b c d"], [["a b c d e f", "a b", "a b c d e f g"]])
    assert result.reference_length == 2


@MANY
@given(
    texts.segments(),
    st.sampled_from(sorted(TOKENIZERS)),
    st.sampled_from(
        [(s, v) for s in SMOOTHINGS for v in (None, 0.3, 2) if v is None or s[0] in "fa"]
    ),
    st.booleans(),
    st.booleans(),
    st.sampled_from([4, 4, 1, 2, 6]),
)
def test_equals_sacrebleu_on_any_text(given, tokenizer, smoothing, lowercase, effective, order):
    hypotheses, references = given
    peer = sacrebleu.metrics.BLEU(
        tokenize=tokenizer,
        smooth_method=smoothing[0],
        smooth_value=smoothing[1],
        lowercase=lowercase,
        effective_order=effective,
        max_ngram_order=order,
    )
    result = bleu(
        hypotheses,
        references,
        tokenizer=tokenizer,
        smoothing=smoothing[0],
        smoothing_value=smoothing[1],
        lowercase=lowercase,
        effective_order=effective,
        max_order=order,
    )
    same_as_peer(result, peer, peer.corpus_score(hypotheses, texts.streams(references)))


@pytest.mark.parametrize("tokenizer", sorted(TOKENIZERS))
def test_equals_sacrebleu_on_real_text(tokenizer):
    hypotheses, references = texts.real_segments(60)
    peer = sacrebleu.metrics.BLEU(tokenize=tokenizer, lowercase=True)
    result = bleu(hypotheses, references, tokenizer=tokenizer, lowercase=True)
    assert 20 < result.score < 90
    same_as_peer(result, peer, peer.corpus_score(hypotheses, texts.streams(references)))
    peer = sacrebleu.metrics.BLEU(tokenize=tokenizer, effective_order=True)
    rows = bleu_statistics(hypotheses, references, tokenizer=tokenizer)
    for hypothesis, several, row in zip(hypotheses[:20], references, rows, strict=False):
        theirs = peer.sentence_score(hypothesis, several).score
        assert bleu_from_statistics(row, effective_order=True).score == pytest.approx(theirs)


def peers_tokens(line, tokenizer):
    return sacrebleu.metrics.BLEU(tokenize=tokenizer).tokenizer(line.rstrip()).split()


@MANY
@given(st.lists(texts.texts, max_size=4), st.sampled_from(sorted(TOKENIZERS)))
def test_tokens_are_sacrebleus(lines, tokenizer):
    wanted = [peers_tokens(line, tokenizer) for line in lines]
    assert [tokenize(line, tokenizer) for line in lines] == wanted
    check_numbers(lines, tokenizer)


def check_numbers(lines, tokenizer):
    """`tokenize_all` gives `tokenize`'s tokens, one number for each distinct one."""
    ids, lengths = tokenize_all(lines, tokenizer)
    wanted = [tokenize(line, tokenizer) for line in lines]
    assert lengths.tolist() == list(map(len, wanted))
    names = {}
    for token, number in zip([t for line in wanted for t in line], ids.tolist(), strict=True):
        assert names.setdefault(token, number) == number
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "zh"])
def test_every_kind_of_character_beside_letters_digits_and_spaces(tokenizer):
    planes = [*range(0x20, 0x3000), *range(0x3000, 0x110000, 997)]
    lines = [
        " ".join(f"a{c}b {c} {c}5 5{c}{c}" for c in map(chr, planes[start : start + 128]))
        for start in range(0, len(planes), 128)
    ]
    for line in lines[::4]:
        assert tokenize(line, tokenizer) == peers_tokens(line, tokenizer)
    check_numbers(lines, tokenizer)


def test_blocks_that_the_chinese_tokenizer_has_in_fact():
    for inside in "\u2001\u2a6d\u2f81\u4e00\u9fbb\uff01":
        assert tokenize(f"a{inside}b", "zh") == f"a {inside} b".split()
    for outside in "\u2000\u2a6e\u4db6\u9fbc\U00020000\U0002f801":
        assert tokenize(f"a{outside}b", "zh") == f"a{outside}b".split()


def test_equals_the_formula():
    hypotheses, references = texts.real_segments(40)
    tokens = [tokenize(h) for h in hypotheses]
    several = [[tokenize(r) for r in two] for two in references]
    rows = [segment_statistics(*pair) for pair in zip(tokens, several, strict=True)]
    np.testing.assert_array_equal(bleu_statistics(hypotheses, references), rows)
    score = bleu(hypotheses, references, smoothing="none").score
    assert score == pytest.approx(bleu_simple(tokens, several), abs=1e-9)
    assert bleu_simple([["a"]], [[["b"]]]) == 0


@MANY
@given(texts.segments(), st.randoms())
def test_facts(given, random):
    hypotheses, references = given
    score = bleu(hypotheses, references, tokenizer="char").score
    assert 0 <= score <= 100 + 1e-9
    order = random.sample(range(len(hypotheses)), len(hypotheses))
    mixed = [random.sample(references[i], len(references[i])) for i in order]
    shuffled = bleu([hypotheses[i] for i in order], mixed, tokenizer="char")
    assert shuffled.score == score
    # a text against itself, long enough that every length of n-gram has one
    full = [h + " and four more words." for h in hypotheses]
    assert bleu(full, full).score == pytest.approx(100, abs=1e-9)
    # the text itself among the references
    assert (
        bleu(full, [[*r, h] for h, r in zip(full, references, strict=True)]).counts
        == bleu(full, full).totals
    )


def test_one_segment_after_the_other_is_all_at_once(monkeypatch):
    hypotheses, references = texts.real_segments(40)
    whole = bleu_statistics(hypotheses, references)
    done = []
    monkeypatch.setattr(segments, "CHUNK", 500)
    parts = bleu_statistics(hypotheses, references, progress=lambda *at: done.append(at))
    np.testing.assert_array_equal(parts, whole)
    assert len(done) > 5
    assert done == sorted(done)
    assert done[-1] == (40, 40)


def test_ranks_of_keys_that_leave_no_room_for_positions():
    keys = np.array([7, 3, 7, 2**61, 3, 2**61, 0])
    wanted = ([2, 1, 2, 3, 1, 3, 0], 4)
    for scale in (1, 2):
        numbers, groups = ngram_overlap._ranks(keys * scale)
        assert (numbers.tolist(), groups) == wanted
    numbers, groups = ngram_overlap._ranks(keys % 2**20)
    assert (numbers.tolist(), groups) == ([2, 1, 2, 0, 1, 0, 0], 3)


def test_empty_texts_score_nothing():
    assert bleu([""], ["a b c d"]).score == 0
    assert bleu(["a b c d"], [""]).score == 0
    assert bleu(["", " "], ["", ""]) == BLEU(
        0.0, (0.0,) * 4, (0,) * 4, (0,) * 4, 1.0, 0, 0, bleu([""], [""]).signature
    )
    assert bleu(["", "a b c d e"], ["x", "a b c d e"]).score < 100


def test_lone_surrogates_are_characters_like_any_other():
    peer = sacrebleu.metrics.BLEU()
    hypotheses, references = ["a \ud800 b c \udfff."], [["a \ud800 b c d."]]
    same_as_peer(
        bleu(hypotheses, references), peer, peer.corpus_score(hypotheses, texts.streams(references))
    )


def test_wrong_input_is_named():
    with pytest.raises(UserError, match="got 2 hypotheses and references for 1"):
        bleu(["a", "b"], ["a"])
    with pytest.raises(UserError, match="hypothesis 1 has no reference"):
        bleu(["a", "b"], ["a", []])
    with pytest.raises(UserError, match="nothing to score"):
        bleu([], [])
    with pytest.raises(ValueError, match=r"references must be a list, got str"):
        bleu(["a"], "a")
    with pytest.raises(ValueError, match="segment 0 must be of str, got NoneType"):
        bleu(["a"], [["a", None]])
    with pytest.raises(ValueError, match="segment 0 must be of str, got NoneType"):
        bleu(["a"], [None])
    with pytest.raises(UserError, match="no BLEU tokenizer '14a'; there are: 13a, intl"):
        bleu(["a"], ["a"], tokenizer="14a")
    for smoothing in ("laplace", None, ["exp"]):
        with pytest.raises(UserError, match=r"no BLEU smoothing .* there are: none, floor"):
            bleu(["a"], ["a"], smoothing=smoothing)
    with pytest.raises(UserError, match="'exp' takes no value, got 2"):
        bleu(["a"], ["a"], smoothing="exp", smoothing_value=2)
    for value in (-1, math.nan, math.inf, 10**400, "x", True):
        with pytest.raises(UserError, match="at least 0, got"):
            bleu(["a"], ["a"], smoothing="floor", smoothing_value=value)
    for order in (0, 1.5, True, None, np.int64(0)):
        with pytest.raises(UserError, match=r"max_order must be .* got " + re.escape(repr(order))):
            bleu(["a"], ["a"], max_order=order)
    for hypotheses, name in ((None, "NoneType"), (np.array("a"), "ndarray")):
        with pytest.raises(ValueError, match=f"hypotheses must be a list, got {name}"):
            bleu(hypotheses, ["a"])


def test_numbers_of_numpy_are_numbers():
    given = {"smoothing": "floor", "max_order": 3, "smoothing_value": 0.5}
    ours = {"max_order": np.int64(3), "smoothing_value": np.float32(0.5)}
    assert bleu(["a b"], ["a c"], **given) == bleu(["a b"], ["a c"], **given | ours)

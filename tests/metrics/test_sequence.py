import math
import warnings

import numpy as np
import pytest
import seqeval.metrics
import seqeval.metrics.sequence_labeling as lenient
import seqeval.metrics.v1 as strict
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.metrics import entities, sequence_scores
from minillm.metrics.sequence import SCHEMES

TRUE = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG", "I-ORG"]]
OURS = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-ORG", "O"]]


def tags_of(letters):
    types = st.sampled_from(["-PER", "-LOC", "", "-A-B"])
    tag = st.builds(str.__add__, st.sampled_from(letters.replace("O", "")), types)
    return tag | st.just("O")


@st.composite
def sequences(draw, letters, suffix=False):
    """(target, predicted): lists of tag sequences of equal lengths."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    sides = [
        [draw(st.lists(tags_of(letters), min_size=n, max_size=n)) for n in lengths]
        for _ in range(2)
    ]
    if suffix:
        turn = lambda tag: (tag[1:].lstrip("-") + "-" + tag[0]) if len(tag) > 1 else tag  # noqa: E731
        sides = [[[turn(tag) for tag in tags] for tags in side] for side in sides]
    return sides


def compare(ours, target, predicted, score=lenient.precision_recall_fscore_support, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = score(target, predicted, average=None, **options)
        rows = [[s.precision, s.recall, s.f1, s.support] for s in ours.classes.values()]
        np.testing.assert_allclose(
            np.reshape(rows, (-1, 4)), np.transpose(each), rtol=1e-12, atol=1e-12
        )
        for average in ("micro", "macro", "weighted"):
            if not rows and average == "macro":
                continue  # a mean over no type: NaN there, zero_division here
            theirs = score(target, predicted, average=average, **options)
            s = getattr(ours, average)
            np.testing.assert_allclose(
                [s.precision, s.recall, s.f1, s.support], theirs, rtol=1e-12, err_msg=average
            )


def test_by_hand():
    found = sequence_scores(OURS, TRUE)
    assert list(found.classes) == ["LOC", "ORG", "PER"]
    per, org = found.classes["PER"], found.classes["ORG"]
    assert (per.precision, per.recall, per.f1, per.support) == (1, 1, 1, 1)
    assert (org.precision, org.recall, org.support) == (0, 0, 1)
    assert (found.micro.precision, found.micro.recall) == (1 / 3, 1 / 3)
    assert found.macro.f1 == pytest.approx(1 / 3)
    assert str(found) == "F1 micro 0.3333, macro 0.3333, weighted 0.3333 over 3 classes"


def test_lenient_and_strict_differ_where_an_entity_has_no_beginning():
    tags = ["O", "I-PER", "I-PER", "O"]
    assert entities(tags) == [("PER", 1, 3)]
    assert entities(tags, scheme="IOB2") == []
    assert entities(tags, scheme="IOB1") == [("PER", 1, 3)]


@given(sequences("IOBES"), st.sampled_from([0, 1]))
def test_lenient_is_seqevals(drawn, zero_division):
    target, predicted = drawn
    found = [entities(tags) for tags in target]
    assert found == [[(t, a, b + 1) for t, a, b in lenient.get_entities(tags)] for tags in target]
    ours = sequence_scores(predicted, target, zero_division=zero_division)
    compare(ours, target, predicted, zero_division=zero_division)


@given(sequences("IOBES", suffix=True))
def test_the_letter_may_stand_at_the_end(drawn):
    target, predicted = drawn
    compare(sequence_scores(predicted, target, suffix=True), target, predicted, suffix=True)


@pytest.mark.parametrize("name", SCHEMES)
@given(data=st.data())
def test_strict_is_seqevals(name, data):
    target, predicted = data.draw(sequences(SCHEMES[name].letters))
    zero_division = data.draw(st.sampled_from([0, 1]))
    theirs = getattr(seqeval.scheme, name)
    for tags in target:
        read = seqeval.scheme.Tokens(tags, theirs).entities
        assert entities(tags, scheme=name) == [(e.tag, e.start, e.end) for e in read]
    ours = sequence_scores(predicted, target, scheme=name, zero_division=zero_division)
    options = {"scheme": theirs, "zero_division": zero_division}
    compare(ours, target, predicted, strict.precision_recall_fscore_support, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = seqeval.metrics.f1_score(target, predicted, mode="strict", **options)
    assert ours.micro.f1 == pytest.approx(f1, rel=1e-12)


def test_without_any_entity_every_average_is_zero_division():
    for value in (0.0, 1.0):
        found = sequence_scores([["O", "O"]], [["O", "O"]], zero_division=value)
        assert found.classes == {}
        assert {found.micro.f1, found.macro.f1, found.weighted.f1} == {value}


@pytest.mark.parametrize(
    ("message", "predicted", "target", "options"),
    [
        ("there are 1 predicted sequences, but 2 true", [["O"]], [["O"], ["O"]], {}),
        ("sequence 2 has 1 predicted tags, but 2 true", [["O"], ["O"]], [["O"], ["O", "O"]], {}),
        ("'X-PER' is no tag: it must be O, or one of I, B, E, S", [["X-PER"]], [["O"]], {}),
        ("'BPER' is no tag", [["BPER"]], [["O"]], {}),
        ("'' is no tag", [[""]], [["O"]], {}),
        ("'O-PER' is no tag", [["O-PER"]], [["O"]], {}),
        ("'S-PER' is no tag: .* I, B before", [["S-PER"]], [["O"]], {"scheme": "IOB2"}),
        ("'B-PER' is no tag: .* behind a dash", [["B-PER"]], [["O"]], {"suffix": True}),
        ("no scheme 'BIO'; there are: IOB1", [["O"]], [["O"]], {"scheme": "BIO"}),
        ("no scheme \\['IOB2'\\]; there", [["O"]], [["O"]], {"scheme": ["IOB2"]}),
    ],
)
def test_a_mistake_is_named(message, predicted, target, options):
    with pytest.raises(UserError, match=message):
        sequence_scores(predicted, target, **options)


@pytest.mark.parametrize(
    ("message", "predicted", "options"),
    [
        ("zero_division must be 0.0 or 1.0, got 0.5", [["O"]], {"zero_division": 0.5}),
        ("zero_division must be 0.0 or 1.0, got nan", [["O"]], {"zero_division": math.nan}),
        ("zero_division must be 0.0 or 1.0, got None", [["O"]], {"zero_division": None}),
        ("a tag must be a str, got 3", [[3]], {}),
        ("a tag must be a str, got None", [[None]], {"scheme": "IOB2"}),
        ("predicted sequence 1 must be a list, got str", ["O"], {}),
        ("predicted must be a list, got NoneType", None, {}),
    ],
)
def test_wrong_input_is_named(message, predicted, options):
    with pytest.raises(ValueError, match=message):
        sequence_scores(predicted, [["O"]], **options)


def test_one_sequence_must_be_a_list():
    with pytest.raises(ValueError, match="tags must be a list, got str"):
        entities("O")

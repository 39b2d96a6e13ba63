import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from minillm.errors import UserError
from minillm.metrics import classification, confusion_matrix

CLOSE = {"rel": 1e-12, "abs": 1e-12}


@st.composite
def answers(draw):
    labels = draw(st.sampled_from([["b", "a", "the cat"], [3, -1, 0, 7], ["x"], ["", "é"]]))
    pairs = draw(st.lists(st.tuples(*[st.sampled_from(labels)] * 2), min_size=1, max_size=30))
    chosen = draw(st.none() | st.permutations(labels).map(lambda x: x[: len(x) // 2 + 1]))
    return *map(list, zip(*pairs, strict=True)), chosen


def test_by_hand():
    target = ["cat", "cat", "cat", "dog", "dog", "owl"]
    predicted = ["cat", "cat", "dog", "dog", "cat", "cat"]
    found = classification(predicted, target)
    cat, dog, owl = (found.classes[name] for name in ("cat", "dog", "owl"))
    assert (cat.precision, cat.recall, cat.support) == (2 / 4, 2 / 3, 3)
    assert cat.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert (dog.precision, dog.recall, dog.f1, dog.support) == (0.5, 0.5, 0.5, 2)
    assert (owl.precision, owl.recall, owl.f1, owl.support) == (0, 0, 0, 1)
    assert found.accuracy == found.micro.f1 == pytest.approx(3 / 6)
    assert found.macro.f1 == pytest.approx((cat.f1 + 0.5) / 3)
    assert found.weighted.f1 == pytest.approx((3 * cat.f1 + 2 * 0.5) / 6)
    confusion = confusion_matrix(predicted, target)
    assert confusion.labels == ["cat", "dog", "owl"]
    assert confusion.counts.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert str(confusion) == "3 of 6 on the diagonal over 3 labels"
    assert confusion.table().splitlines()[1].split() == ["cat", "2", "1", "0"]
    assert str(found).startswith("accuracy 0.5000, F1 micro 0.5000, macro")
    assert found.table(2).splitlines()[2].split() == ["dog", "0.50", "0.50", "0.50", "2"]
    assert found.table().splitlines()[-1].startswith("weighted average")


@given(answers(), st.sampled_from([0.0, 1.0, math.nan]))
@example((["a", "b"], ["a", "a"], ["b", "a"]), math.nan)
@example(([1], [2], [2]), 1.0)
def test_equal_to_scikit_learn(drawn, zero_division):
    predicted, target, labels = drawn
    found = classification(predicted, target, labels=labels, zero_division=zero_division)
    options = {"labels": labels, "zero_division": zero_division}
    each = sklearn.precision_recall_fscore_support(target, predicted, average=None, **options)
    ours = [[s.precision, s.recall, s.f1, s.support] for s in found.classes.values()]
    np.testing.assert_allclose(ours, np.transpose(each), rtol=1e-12, atol=1e-12)
    for average in ("micro", "macro", "weighted"):
        *theirs, _ = sklearn.precision_recall_fscore_support(
            target, predicted, average=average, **options
        )
        s = getattr(found, average)
        np.testing.assert_allclose(
            [s.precision, s.recall, s.f1], theirs, rtol=1e-12, atol=1e-12, err_msg=average
        )
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(target, predicted), **CLOSE)


@given(answers())
def test_the_matrix_is_scikit_learns(drawn):
    predicted, target, labels = drawn
    if labels is not None and not set(labels) & set(target):
        return  # scikit-learn refuses labels none of which is a true one; see below
    found = confusion_matrix(predicted, target, labels=labels)
    order = sorted(set(predicted + target)) if labels is None else labels
    assert found.labels == order
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one label
        theirs = sklearn.confusion_matrix(target, predicted, labels=order)
    assert np.array_equal(found.counts, theirs)


def test_labels_that_never_occur_have_a_row_of_zeros():
    assert confusion_matrix([1, 2], [1, 2], labels=[9]).counts.tolist() == [[0]]


def test_arrays_do_as_lists_do():
    a, b = np.array([1, 2, 2], np.int8), np.array([1, 1, 2], np.int64)
    assert classification(a, b) == classification([1, 2, 2], [1, 1, 2])
    assert classification(np.array(["x"]), ["x"]).accuracy == 1


def test_truth_values_are_labels_of_their_own():
    assert list(classification([True, False], [True, True]).classes) == [False, True]


def test_labels_may_come_one_by_one():
    assert classification(iter("ab"), iter("ab")).accuracy == 1


NONE: tuple = ([], [])


@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (ValueError, "target must have length 2, got 1", ([1, 2], [1]), {}),
        (ValueError, "all strings or all whole numbers, got int, str", ([1, 2], [1, "a"]), {}),
        (ValueError, "got float", ([1.5], [1.5]), {}),
        (ValueError, "got int, str", (["a"], ["a"]), {"labels": [1]}),
        (ValueError, "each label once", ([1], [1]), {"labels": [1, 1]}),
        (ValueError, "got bool, int", ([True], [1]), {}),
        (ValueError, "got bool, int", ([1], [1]), {"labels": [True]}),
        (ValueError, "got list", ([[1]], [[1]]), {}),
        (ValueError, "got int, list", (np.eye(2, dtype=int), [1, 2]), {}),
        (ValueError, "predicted must be a list, got NoneType", (None, [1]), {}),
        (ValueError, "target must be a list, got str", (["a"], "a"), {}),
        (ValueError, "must be 0.0, 1.0 or NaN, got 0.5", NONE, {"zero_division": 0.5}),
        (ValueError, "zero_division must be .* got 'warn'", NONE, {"zero_division": "warn"}),
        (ValueError, "zero_division must be .* got None", NONE, {"zero_division": None}),
        (UserError, "nothing to score", ([], []), {}),
    ],
)
def test_wrong_input_is_named(error, message, arguments, options):
    with pytest.raises(error, match=message):
        classification(*arguments, **options)

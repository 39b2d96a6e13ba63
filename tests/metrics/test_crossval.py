import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from minillm.data import Document, encode_documents
from minillm.errors import UserError
from minillm.metrics import cross_validate, evaluate, k_fold, stratified_k_fold
from minillm.models.baselines import Unigram
from minillm.tokenizers import ByteTokenizer, CharTokenizer

WORDS = ["bread", "salt", "water", "flour", "oven"]
DOCUMENTS = [Document(str(i), text) for i, text in enumerate(WORDS)]


def same(ours, theirs):
    for (train, test), (their_train, their_test) in zip(ours, theirs, strict=True):
        assert np.array_equal(train, their_train)
        assert np.array_equal(test, their_test)


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n))))
def test_folds_are_scikit_learns(sizes):
    n, k = sizes
    same(k_fold(n, k), KFold(k).split(np.zeros(n)))


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=40), st.integers(2, 6))
def test_strata_are_scikit_learns(labels, k):
    if max(map(labels.count, labels)) < k:
        with pytest.raises(UserError, match="k must be"):
            stratified_k_fold(labels, k)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class has fewer members than there are folds
        theirs = list(StratifiedKFold(k).split(labels, labels))
    same(stratified_k_fold(labels, k), theirs)
    same(stratified_k_fold(np.array(labels), k), theirs)


@given(st.integers(2, 30), st.integers(0, 99))
def test_shuffled_folds_are_a_partition_of_equal_parts(n, seed):
    labels = [i % 2 for i in range(n)]
    for folds in (
        k_fold(n, 2, rng=np.random.default_rng(seed)),
        stratified_k_fold(labels, 2, rng=np.random.default_rng(seed)) if n > 2 else [],
    ):
        for train, test in folds:
            assert sorted([*train, *test]) == list(range(n))
            assert abs(len(train) - len(test)) <= 1
        if folds:
            assert sorted(np.concatenate([test for _, test in folds])) == list(range(n))
    again = k_fold(n, 2, rng=np.random.default_rng(seed))
    same(k_fold(n, 2, rng=np.random.default_rng(seed)), again)


def make(documents):
    tokenizer = ByteTokenizer()
    return Unigram.train(encode_documents(documents, tokenizer), tokenizer)


def test_each_document_is_tested_on_once_by_a_model_that_never_saw_it():
    told = []
    found = cross_validate(make, DOCUMENTS, 3, progress=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    groups = [DOCUMENTS[:2], DOCUMENTS[2:4], DOCUMENTS[4:]]
    for fold, test in zip(found.folds, groups, strict=True):
        assert fold == evaluate(make([d for d in DOCUMENTS if d not in test]), test)
    values = [fold.bits_per_byte for fold in found.folds]
    assert found.summary() == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert str(found) == (
        f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} bits per byte over 3 folds"
    )


def test_classes_are_spread_over_the_folds():
    documents = [Document(str(i), "x" * (i + 1)) for i in range(6)]
    seen = []

    def watch(train):
        seen.append(sorted(int(d.name) // 3 for d in train))
        return make(train)

    for rng in (None, np.random.default_rng(0)):
        seen.clear()
        cross_validate(watch, documents, 3, labels=list("aaabbb"), rng=rng)
        assert seen == [[0, 0, 1, 1]] * 3
    seen.clear()
    cross_validate(watch, documents, 2)
    assert seen == [[1, 1, 1], [0, 0, 0]]


def test_a_lossy_tokenizer_is_compared_by_perplexity():
    class Lossy(CharTokenizer):
        lossless = False

        def _text_of(self, ids):
            return super()._text_of(ids).upper()

    def lossy(documents):
        tokenizer = Lossy.train("".join(d.text for d in DOCUMENTS))
        return Unigram.train(encode_documents(documents, tokenizer), tokenizer)

    found = cross_validate(lossy, DOCUMENTS, 2)
    assert "perplexity over 2 folds" in str(found)
    with pytest.raises(UserError, match="bits_per_byte is not known"):
        found.summary()


@pytest.mark.parametrize("k", [1, 6, 2.0, True, "2", None])
def test_a_wrong_k_is_named(k):
    with pytest.raises(UserError, match="k must be a whole number from 2 to the 5"):
        k_fold(5, k)
    with pytest.raises(UserError, match="k must be a whole number from 2 to the 5"):
        cross_validate(make, DOCUMENTS, k)


def test_numbers_of_numpy_are_numbers():
    for ours, other in zip(k_fold(np.int32(5), np.int64(2)), k_fold(5, 2), strict=True):
        assert all(map(np.array_equal, ours, other))


def test_wrong_input_is_named():
    for n in ("5", 5.0, True, -1):
        with pytest.raises(UserError, match=f"n must be a whole number of at least 0, got {n!r}"):
            k_fold(n, 2)
    for fold, things in ((k_fold, 2), (stratified_k_fold, ["a", "a"])):
        with pytest.raises(UserError, match=r"rng must be None or a numpy.* got 7"):
            fold(things, 2, rng=7)
    with pytest.raises(ValueError, match=r"labels must be such as strings .* unhashable type"):
        stratified_k_fold([[1], [1]], 2)
    with pytest.raises(ValueError, match="labels must be a list, got int"):
        cross_validate(make, DOCUMENTS, 2, labels=3)


def test_labels_of_another_length_are_named():
    with pytest.raises(ValueError, match="labels must have length 5, got 2"):
        cross_validate(make, DOCUMENTS, 2, labels=[1, 2])

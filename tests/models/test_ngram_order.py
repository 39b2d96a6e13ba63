"""What an order asks of a text, known before it is counted."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.models import ngram_memory, ngram_order
from minillm.models.ngram import NGram
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_counts_simple import count_ngrams_simply
from minillm.models.ngram_order import Places
from minillm.tokenizers.word import WordTokenizer

SIZE, END = 5, 4
IDS = st.lists(st.integers(0, SIZE - 1), max_size=60)
TOKENIZER = WordTokenizer(f"w{i}" for i in range(300))


@given(ids=IDS, order=st.integers(2, 12), ahead=st.integers(2, 15))
def test_what_is_foreseen_is_never_more_than_there_is(ids, order, ahead):
    counts = count_ngrams_simply(ids, order=order, vocab_size=SIZE, end_id=END)
    many = [len(found.keys) for found in counts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_order, "AHEAD", ahead)
        places = Places(np.array(ids, int), order, END)
    for n in range(2, order + 1):
        assert 0 <= places.still_to_come(n, many[n - 1]) <= sum(many[n : order - 1])


@given(ids=IDS, order=st.integers(2, 70))
def test_it_is_all_there_is_once_nothing_repeats(ids, order):
    counts = count_ngrams_simply(ids, order=order, vocab_size=SIZE, end_id=END)
    places = Places(np.array(ids, int), order, END)
    for n in range(2, order + 1):
        if counts[n - 1].raw.max(initial=1) == 1:
            longer = sum(len(found.keys) for found in counts[n : order - 1])
            assert places.still_to_come(n, len(counts[n - 1].keys)) == longer


def test_an_order_that_will_not_fit_is_refused_while_short_ones_are_counted(monkeypatch):
    monkeypatch.setattr(ngram_memory, "available_memory", lambda: 200_000_000)
    ids = np.random.default_rng(0).integers(0, 300, 20_000)
    told = []
    arguments = {"vocab_size": TOKENIZER.vocab_size, "end_id": TOKENIZER.end_id}
    with pytest.raises(UserError, match=r"n-grams up to 5000 long may take .* GB .* lower order"):
        count_ngrams(ids, order=5000, progress=lambda *at: told.append(at), **arguments)
    assert len(told) <= 4
    assert len(count_ngrams(ids, order=100, **arguments)) == 100  # 2 M n-grams


@pytest.mark.parametrize("order", [1002, 5000, 100_000, 10**22])
@pytest.mark.parametrize("smoothing", ["modified-kneser-ney", "jelinek-mercer"])
def test_an_order_beyond_the_longest_document_is_refused_at_once(order, smoothing):
    ids = np.append(np.arange(10), TOKENIZER.end_id)
    told = f"order {order} is too much .* longest document has 11 tokens.*: take 1000 or less"
    with pytest.raises(UserError, match=told):
        NGram.train(ids, TOKENIZER, order=order, smoothing=smoothing)


def test_an_order_may_be_as_long_as_a_document_and_its_two_ends():
    end = TOKENIZER.end_id
    ids = np.concatenate([[0, end], np.zeros(1200, int), [end, 1, end]])
    model = NGram.train(ids, TOKENIZER, order=1202, smoothing="mle")
    assert [len(level.keys) for level in model.levels[-2:]] == [2, 1]
    with pytest.raises(UserError, match=r"has 1201 tokens, its end included: take 1202 or less"):
        NGram.train(ids, TOKENIZER, order=1203, smoothing="mle")


def test_levels_without_ngrams_are_no_burden():
    short = np.append(np.arange(10), TOKENIZER.end_id)
    start = time.perf_counter()
    model = NGram.train(short, TOKENIZER, order=1000)
    assert time.perf_counter() - start < 2  # 0.1 s on two processors
    assert [len(level.keys) for level in model.levels[11:]] == [1] + [0] * 988
    model.score(short)


def test_given_weights_of_another_order_are_refused_at_once():
    with pytest.raises(UserError, match=f"weights must be {10**22} times 1 numbers"):
        NGram.train([0], TOKENIZER, order=10**22, smoothing="jelinek-mercer", weights=((0.5,),))

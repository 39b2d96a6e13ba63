import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.generation import beam_search, generate
from minillm.generation.beam import log_softmax
from tests.generation.standin import HistoryModel, TableModel, table_model


def score_of(model, prompt, ids, length_penalty):
    """One continuation's score, one step at a time with a past of its own."""
    past, total = model.start(1), 0.0
    feed = np.array([prompt], np.int32)
    for token in ids:
        total += log_softmax(model.step(past, feed))[0, token]
        feed = np.array([[token]], np.int32)
    return total / len(ids) ** length_penalty


def exhaustive(model, prompt, length, length_penalty, stop_id):
    """Every continuation of `length` tokens, or shorter and ending in the stop token."""
    found = {}
    for ids in itertools.product(range(model.vocab_size), repeat=length):
        cut = ids[: ids.index(stop_id) + 1] if stop_id in ids else ids
        if cut not in found:
            found[cut] = score_of(model, prompt, cut, length_penalty)
    best = sorted(found.items(), key=lambda item: -item[1])
    return [(ids[:-1] if ids[-1] == stop_id else ids, score) for ids, score in best]


@given(
    vocab_length=st.sampled_from([(2, 5), (3, 4), (5, 3), (4, 1)]),
    length_penalty=st.sampled_from([0.0, 0.7, 1.0, 2.0, -0.5]),
    stop=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_wide_enough_search_is_exhaustive(vocab_length, length_penalty, stop, seed):
    vocab, length = vocab_length
    model = table_model(vocab, seed, kind=HistoryModel)
    stop_id = 1 if stop else None
    expected = exhaustive(model, [0, 1], length, length_penalty, stop_id)
    found = beam_search(
        model,
        [0, 1],
        beams=vocab**length,
        max_new_tokens=length,
        length_penalty=length_penalty,
        stop_id=stop_id,
    )
    assert len(found) == len(expected)
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-12)
    assert [tuple(ids) for ids, _ in found] == [ids for ids, _ in expected]


@given(beams=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_texts_returned(beams, seed):
    model = table_model(6, seed, kind=HistoryModel)
    found = beam_search(model, [2], beams=beams, max_new_tokens=7, length_penalty=0.8)
    assert len(found) == beams
    assert [s for _, s in found] == sorted((s for _, s in found))[::-1]
    for ids, score in found:
        assert ids.dtype == np.int32
        assert len(ids) == 7
        np.testing.assert_allclose(score, score_of(model, [2], ids, 0.8), rtol=1e-12)


def test_one_beam_is_greedy():
    model = table_model(11, 2, kind=HistoryModel)
    ((ids, _),) = beam_search(model, [4, 1], beams=1, max_new_tokens=10)
    assert ids.tolist() == generate(model, [4, 1], max_new_tokens=10, greedy=True).tolist()


def test_beams_find_what_greed_misses():
    """0 looks best at first (0.6), but everything after it is unlikely; 1 then 1 is best."""
    p = np.array([[0.6, 0.4, 1e-9], [1e-9, 0.95, 0.05], [0.34, 0.33, 0.33]])
    p[0] = [0.34, 0.33, 0.33]
    p[2] = [0.6, 0.4, 1e-9]
    model = TableModel(np.log(p).astype(np.float32))
    assert generate(model, [2], max_new_tokens=2, greedy=True).tolist() == [0, 0]
    assert beam_search(model, [2], beams=2, max_new_tokens=2)[0][0].tolist() == [1, 1]


def test_the_length_penalty_chooses_between_short_and_long():
    """Stopping at once costs ln 4, going on and then stopping costs 4 small steps of ln 4/3."""
    p = np.full((2, 2), 0.25)
    p[:, 0] = 0.75
    model = TableModel(np.log(p).astype(np.float32))
    lengths = {}
    for penalty in (0.0, 1.0):
        ids, _ = beam_search(
            model, [0], beams=8, max_new_tokens=12, stop_id=1, length_penalty=penalty
        )[0]
        lengths[penalty] = len(ids)
    assert lengths[0.0] == 0
    assert lengths[1.0] == 12


def test_a_search_ends_when_nothing_can_improve():
    p = np.array([[0.001, 0.999], [0.5, 0.5]])
    model = TableModel(np.log(p).astype(np.float32))
    found = beam_search(model, [0], beams=1, max_new_tokens=1000, stop_id=1, length_penalty=0.0)
    assert found[0][0].size == 0
    assert len(model.fed) == 1


def test_a_search_goes_on_while_a_longer_text_may_win():
    """Stopping at once is 9 times as likely, yet per token a hundred sure ones are better."""
    p = np.array([[0.001, 0.899, 0.1], [0.4, 0.3, 0.3], [5e-7, 5e-7, 1 - 1e-6]])
    model = TableModel(np.log(p).astype(np.float32))
    settings = {"beams": 1, "max_new_tokens": 100, "stop_id": 1}
    assert len(beam_search(model, [0], length_penalty=1.0, **settings)[0][0]) == 100
    assert len(beam_search(model, [0], length_penalty=0.0, **settings)[0][0]) == 0


def test_fewer_continuations_than_beams():
    model = table_model(2)
    assert len(beam_search(model, [0], beams=50, max_new_tokens=3)) == 8
    assert beam_search(model, [0], beams=2, max_new_tokens=0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beams": 0}, "beams must be a whole number of at least 1, got 0"),
        ({"beams": 1.5}, "beams must be"),
        ({"length_penalty": np.nan}, "length_penalty must be"),
        ({"length_penalty": "long"}, "length_penalty must be"),
        ({"max_new_tokens": -2}, "max_new_tokens must be"),
        ({"prompt_ids": [99]}, "the prompt has the id 99"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    arguments = {"prompt_ids": [1], "max_new_tokens": 3, "beams": 2} | arguments
    with pytest.raises(UserError, match=message):
        beam_search(table_model(5), arguments.pop("prompt_ids"), **arguments)


def test_logits_that_are_not_finite_are_refused():
    model = TableModel(np.full((3, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="weights are damaged"):
        beam_search(model, [0], beams=2, max_new_tokens=2)

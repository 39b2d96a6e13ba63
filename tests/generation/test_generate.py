import numpy as np
import pytest

from minillm.errors import UserError
from minillm.generation import beam_search, generate, stream
from minillm.models.ngram import NGram
from minillm.tokenizers import CharTokenizer
from tests.generation.standin import HistoryModel, TableModel, table_model


def test_greedy_follows_the_largest_logit():
    model = table_model(7)
    ids = generate(model, [3], max_new_tokens=6, greedy=True)
    last, expected = 3, []
    for _ in range(6):
        last = int(model.logits[last].argmax())
        expected.append(last)
    assert ids.tolist() == expected
    assert ids.dtype == np.int32


def test_a_seed_reproduces():
    model = table_model(20, scale=0.5)
    a = generate(model, [1, 2], max_new_tokens=30, rng=np.random.default_rng(4))
    b = generate(model, [1, 2], max_new_tokens=30, rng=4)
    c = generate(model, [1, 2], max_new_tokens=30, rng=5)
    assert a.tolist() == b.tolist() != c.tolist()


def test_draws_follow_the_model():
    """Pairs of tokens in a long text against the table's own probabilities, by 5 deviations."""
    model = table_model(4, scale=0.7)
    ids = generate(model, [0], max_new_tokens=8000, rng=0)
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (ids[:-1], ids[1:]), 1)
    p = np.exp(model.logits.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    n = pairs.sum(axis=1, keepdims=True)
    assert np.all(np.abs(pairs - n * p) <= 5 * np.sqrt(n * p * (1 - p)))


def test_the_prompt_is_fed_once_and_each_choice_once():
    model = table_model(9)
    ids = generate(model, [5, 6, 7], max_new_tokens=4, rng=1)
    fed = [row[0].tolist() for row in model.fed]
    assert fed == [[5, 6, 7], [ids[0]], [ids[1]], [ids[2]]]  # nothing is fed after the last choice


def test_stream_yields_what_generate_returns_as_it_is_chosen():
    model = table_model(9, kind=HistoryModel)
    arguments = {"max_new_tokens": 12, "top_k": 5, "temperature": 1.3, "repetition_penalty": 1.1}
    expected = generate(model, [2], rng=3, **arguments)
    model.fed.clear()
    tokens = stream(model, [2], rng=3, **arguments)
    first = next(tokens)
    assert len(model.fed) == 1
    assert [first, *tokens] == expected.tolist()
    assert type(first) is int


def test_the_stop_token_ends_the_text_and_is_not_part_of_it():
    chain = np.full((4, 4), -5.0, np.float32)
    chain[0, 1] = chain[1, 2] = chain[2, 3] = chain[3, 0] = 5
    model = TableModel(chain)
    assert generate(model, [0], max_new_tokens=9, greedy=True, stop_id=3).tolist() == [1, 2]
    assert generate(model, [2], max_new_tokens=9, greedy=True, stop_id=3).tolist() == []
    assert generate(model, [0], max_new_tokens=5, greedy=True).tolist() == [1, 2, 3, 0, 1]


def test_stop_id_zero_stops_too():
    chain = np.array([[0.0, 9.0], [9.0, 0.0]], np.float32)
    ids = generate(TableModel(chain), [0], max_new_tokens=5, greedy=True, stop_id=0)
    assert ids.tolist() == [1]


def test_an_empty_prompt_starts_a_document():
    model = table_model(5)
    model.tokenizer.end_id = 4
    assert (
        generate(model, [], max_new_tokens=3, greedy=True).tolist()
        == generate(model, [4], max_new_tokens=3, greedy=True).tolist()
    )


def test_the_repetition_penalty_sees_prompt_and_own_tokens():
    """Everything is equally likely, so a huge penalty makes the text a permutation of the rest."""
    model = TableModel(np.full((8, 8), 2.0, np.float32))
    ids = generate(model, [3, 5], max_new_tokens=6, greedy=True, repetition_penalty=1e6)
    assert sorted(ids.tolist()) == [0, 1, 2, 4, 6, 7]


def test_no_new_tokens():
    model = table_model(5)
    assert generate(model, [1], max_new_tokens=0).tolist() == []
    assert not model.fed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens must be a whole number of at least 0, got -1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be"),
        ({"temperature": 0}, r"temperature must be a number above 0 \(.*greedy\), got 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"top_k": 0}, "top_k must be"),
        ({"prompt_ids": [1, 7]}, "the prompt has the id 7, but the model knows ids 0 to 4"),
        ({"prompt_ids": [-1]}, "the prompt has the id -1"),
        ({"prompt_ids": [[1]]}, r"one row of token ids, got int64 of shape \(1, 1\)"),
        ({"prompt_ids": [0.5]}, "one row of token ids, got float64"),
    ],
)
@pytest.mark.parametrize("function", [generate, stream])
def test_bad_parameters_are_named_at_once(function, arguments, message):
    model = table_model(5)
    arguments = {"prompt_ids": [1], "max_new_tokens": 3} | arguments
    with pytest.raises(UserError, match=message):
        function(model, arguments.pop("prompt_ids"), **arguments)
    assert not model.fed


@pytest.mark.parametrize("order", [1, 3])
def test_the_n_gram_model_generates_too(order):
    """A text that repeats itself, so that a trigram's greedy continuation is known."""
    tokenizer = CharTokenizer("abc")
    model = NGram.train(tokenizer.encode("abc" * 50), tokenizer, order=order)
    ids = generate(model, tokenizer.encode("ab"), max_new_tokens=6, greedy=True)
    assert tokenizer.decode(ids) == ("cabcab" if order == 3 else "aaaaaa")
    drawn = generate(model, [], max_new_tokens=40, rng=0, top_p=0.99, repetition_penalty=1.1)
    assert len(drawn) == 40
    best, score = beam_search(model, tokenizer.encode("c"), beams=3, max_new_tokens=4)[0]
    assert score == pytest.approx(-model.score([*tokenizer.encode("c"), *best])[0][1:].sum() / 4)

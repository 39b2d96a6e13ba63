import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.models.ngram import NGram
from minillm.models.ngram_config import NAMES
from minillm.models.ngram_good_turing import katz_discounts
from minillm.models.ngram_smoothing import SMOOTHINGS
from minillm.tokenizers import CharTokenizer
from tests.models.ngram_oracle import BruteForce

TOL = 1e-10
TOKENIZER = CharTokenizer("abcd")  # ids 0 to 3, the end 4, the unknown one 5
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size
DISTRIBUTIONS = [name for name in NAMES if name != "stupid-backoff"]
SETTINGS = {
    "add-k": {"k": st.sampled_from([1, 0.5, 0.01])},
    "absolute-discounting": {"discount": st.sampled_from([None, 0.75])},
    "kneser-ney": {"discount": st.sampled_from([None, 0.75])},
    "katz": {"cutoff": st.sampled_from([2, 3, 5])},
    "stupid-backoff": {"factor": st.sampled_from([0.4, 0.9])},
    "jelinek-mercer": {"buckets": st.sampled_from([1, 3])},
}


@st.composite
def cases(draw, names=NAMES):
    """A text with runs, ends and rare tokens, a model of it, and contexts seen and unseen."""
    name = draw(st.sampled_from(names))
    order = draw(st.integers(1, 5))
    seed, n = draw(st.integers(0, 10**6)), draw(st.sampled_from([1, 2, 9, 40, 200]))
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(SIZE - 1, 0.5))
    ids = rng.choice(SIZE - 1, n, p=p)
    given_ = {key: draw(values) for key, values in SETTINGS.get(name, {}).items()}
    given_ = {key: value for key, value in given_.items() if value is not None}
    prune = draw(st.sampled_from([None, (0, 1), (0, 0, 2), (0, 1, 1, 3)]))
    if prune and len(prune) <= order:
        given_["prune"] = prune
    model = NGram.train(ids, TOKENIZER, order=order, smoothing=name, **given_)
    contexts = [rng.integers(0, SIZE, rng.integers(0, 7)) for _ in range(3)]
    place = int(rng.integers(0, n))
    contexts += [ids[max(0, place - 6) : place], [END], [END, END], np.append(ids, END), [0, END]]
    return name, model, ids.tolist(), given_, contexts, rng


def brute_force(name, model, ids, given_):
    weights = model.config.weights
    return BruteForce(ids, model.config.order, SIZE, END, name, weights=weights, **given_)


def distribution(model, context):
    past = model.start(1)
    if len(context) == 0:
        return model._distribution(past[0])
    return np.exp(model.step(past, np.array([context])))[0]


@settings(max_examples=400)
@given(case=cases())
def test_equals_the_formula(case):
    name, model, ids, given_, contexts, _ = case
    oracle = brute_force(name, model, ids, given_)
    for context in contexts:
        expected = oracle.distribution(context)
        assert np.allclose(distribution(model, context), expected, rtol=1e-9, atol=TOL)


@settings(max_examples=200)
@given(case=cases(DISTRIBUTIONS))
def test_sums_to_one_and_scores_what_it_says(case):
    _, model, _, _, contexts, rng = case
    for context in contexts:
        p = model.next_distribution(context)
        assert abs(p.sum() - 1) < TOL
        assert p.min() >= 0
    text = rng.integers(0, SIZE, 30)
    nats, correct = model.score(text)
    rows = [model.next_distribution([END, *text[:t]]) for t in range(len(text))]
    expected = [row[t] for row, t in zip(rows, text, strict=True)]
    assert np.allclose(np.exp(-nats), expected, rtol=TOL, atol=0)
    assert np.array_equal(np.exp(model.log_p(text)), np.exp(-nats))
    assert correct.tolist() == [row.argmax() == t for row, t in zip(rows, text, strict=True)]


@settings(max_examples=200)
@given(case=cases())
def test_a_stream_is_scored_as_it_is_read_step_by_step(case):
    """Of stupid back-off, too, whose context may be one that was never seen."""
    _, model, _, _, _, rng = case
    text = rng.integers(0, SIZE, 30)
    steps = [distribution(model, [END, *text[:t]])[token] for t, token in enumerate(text)]
    nats, _ = model.score(text)
    assert np.allclose(np.exp(-nats), steps, rtol=TOL, atol=0)
    assert np.array_equal(model.log_p(text), -nats)


@settings(max_examples=200)
@given(case=cases(DISTRIBUTIONS), size=st.integers(1, 31))
def test_the_distributions_of_a_stream_are_those_of_its_contexts(case, size):
    _, model, _, _, _, rng = case
    text = rng.integers(0, SIZE, 30)
    blocks = list(model.distributions(text, size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    expected = [model.next_distribution([END, *text[:t]]) for t in range(len(text))]
    assert np.allclose(np.concatenate(blocks), expected, rtol=TOL, atol=0)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_order_of_every_smoothing(order, name):
    """What the two tests above draw at random, of a text after which much was never seen."""
    rng = np.random.default_rng(order)
    model = NGram.train(rng.integers(0, 3, 40), TOKENIZER, order=order, smoothing=name)
    text = rng.integers(0, SIZE, 60)
    steps = np.array([distribution(model, [END, *text[:t]]) for t in range(len(text))])
    assert np.allclose(np.exp(-model.score(text)[0]), steps[np.arange(60), text], rtol=TOL, atol=0)
    if model.is_distribution:
        assert np.allclose(np.concatenate(list(model.distributions(text, 7))), steps, rtol=TOL)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula_where_the_discounts_are_computed(name):
    tokenizer = CharTokenizer("".join(map(chr, range(100, 160))))
    size, end = tokenizer.vocab_size, tokenizer.end_id
    rng = np.random.default_rng(2)
    p = 1 / np.arange(1, size) ** 1.6
    ids = rng.permutation(size - 1)[rng.choice(size - 1, 1500, p=p / p.sum())]
    given_ = {"cutoff": 2} if name == "katz" else {}
    model = NGram.train(ids, tokenizer, order=3, smoothing=name, **given_)
    weights = model.config.weights
    oracle = BruteForce(ids.tolist(), 3, size, end, name, weights=weights, **given_)
    fell_back = [note for note in model.notes if "too few" in note]
    assert len(fell_back) < 2, model.notes  # so that the formula is what is tested
    for start in range(0, 40, 10):
        for context in (ids[start : start + 2], ids[start : start + 1], [end]):
            expected = oracle.distribution(context)
            assert np.allclose(distribution(model, context), expected, rtol=1e-9, atol=0)


def test_every_name_is_a_smoothing():
    assert tuple(SMOOTHINGS) == NAMES
    assert all("Equation: " in s.function.__doc__ for s in SMOOTHINGS.values())


def test_what_is_left_to_rare_tokens_is_not_lost_in_rounding():
    # After 0 all was seen but 3, which is 1 in 60001, and 5, which never was; after 1 all but 5.
    ids = np.array([0, 1, 0, 0, 1, 1] * 10000 + [0, 2, 1, 2, 0, 4, 1, 3, 1, 4])
    model = NGram.train(ids, TOKENIZER, order=3, smoothing="katz")
    oracle = BruteForce(ids.tolist(), 3, SIZE, END, "katz")
    for context in ([0], [1], [2], [0, 0], [0, 1], [1, 1], [END, 0]):
        p = model.next_distribution(context)
        assert abs(p.sum() - 1) < 1e-14
        assert np.allclose(p, oracle.distribution(context), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["katz", "good-turing", "add-k", "witten-bell"])
def test_a_context_that_every_token_followed(name):
    ids = np.array([token for a in range(SIZE) for token in (0, a) if a != END])
    ids = np.append(ids, [0, END, 0, END])
    model = NGram.train(ids, TOKENIZER, order=2, smoothing=name)
    assert np.diff(model.levels[1].first)[0] == SIZE
    p = model.next_distribution([0])
    assert abs(p.sum() - 1) < 1e-14
    oracle = BruteForce(ids.tolist(), 2, SIZE, END, name)
    assert np.allclose(p, oracle.distribution([0]), rtol=1e-12)


def test_how_long_an_n_gram_was_found():
    model = NGram.train(np.array([0, 1, 2, 0, 1, END]), TOKENIZER, order=3)
    assert model.matched([0, 1, 2, 0, 3, 0, 1, END, 2, 0, 1]).tolist() == (
        [2, 3, 3, 3, 1, 1, 2, 3, 1, 2, 3]
    )


def test_katz_discounts_by_hand():
    # A = 3 n3 / n1 = 0.3; 1* = 2 n2 / n1 = 0.8, 2* = 3 n3 / n2 = 0.75
    d, cutoff = katz_discounts([0, 10, 4, 1])
    assert np.allclose(d, [0, (0.8 - 0.3) / 0.7, (0.375 - 0.3) / 0.7])
    assert cutoff == 2
    # so much is freed as n1 says: the sum of n_r r (1 - d_r)
    assert np.isclose(10 * 1 * (1 - d[1]) + 4 * 2 * (1 - d[2]), 10)
    # no count of 5, so that 4 is too large a cutoff; 3 is, for 3* / 3 = 4 n4 / n3 / 3 is above 1
    d, cutoff = katz_discounts([0, 10, 4, 1, 2, 0])
    assert cutoff == 2
    assert np.allclose(d, [0, 0.5 / 0.7, 0.075 / 0.7, 1, 1])
    d, cutoff = katz_discounts([0, 0, 4, 1, 2, 0])
    assert (d.tolist(), cutoff) == ([0, 0.5, 0.75, 2.5 / 3, 0.875], 0)


@pytest.mark.parametrize("cutoff", [200_001, 10**6, 10**30])
def test_a_cutoff_beyond_all_counts_is_no_more_work_than_the_largest_count(cutoff):
    ids = np.append(np.zeros(200_000, int), [1, 2, 2, END])
    start = time.perf_counter()
    model = NGram.train(ids, TOKENIZER, order=2, smoothing="katz", cutoff=cutoff)
    assert time.perf_counter() - start < 5  # 0.1 s on two processors
    same = NGram.train(ids, TOKENIZER, order=2, smoothing="katz", cutoff=200_000)
    for one, other in zip(model.levels, same.levels, strict=True):
        assert np.array_equal(one.p, other.p)
        assert np.array_equal(one.backoff, other.backoff)
    assert f"Katz's discounts up to {cutoff}" in model.notes[0]

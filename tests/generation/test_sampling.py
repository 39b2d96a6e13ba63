import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from minillm.errors import UserError
from minillm.generation import sampling
from minillm.generation.sampling import Sampling

EPS = np.finfo(np.float64).eps
seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([1, 2, 7, 65, 300, 1000])


def random_logits(size, seed, scale=3.0):
    return scale * np.random.default_rng([seed, size]).standard_normal(size)


def theirs(processor, logits, seen=()):
    ids = torch.tensor(np.asarray(seen, np.int64))[None]
    return processor(ids, torch.tensor(logits)[None])[0].numpy()


def assert_same(ours, expected):
    """The same tokens left out, the same values kept."""
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(expected))
    kept = np.isfinite(expected)
    np.testing.assert_allclose(ours[kept], expected[kept], rtol=8 * EPS, atol=8 * EPS)


@given(size=sizes, seed=seeds, temperature=st.sampled_from([0.1, 0.8, 1.0, 1.7, 50.0]))
def test_temperature_is_transformers(size, seed, temperature):
    logits = random_logits(size, seed)
    expected = theirs(TemperatureLogitsWarper(temperature), logits)
    ours = sampling.scale_temperature(logits, temperature)
    np.testing.assert_allclose(ours, expected - expected.max(), rtol=1e-13, atol=1e-12)


@given(size=sizes, seed=seeds, k=st.sampled_from([1, 2, 5, 64, 65, 66, 5000]))
def test_top_k_is_transformers(size, seed, k):
    logits = random_logits(size, seed)
    ours = sampling.keep_top_k(logits, k)
    assert_same(ours, theirs(TopKLogitsWarper(k), logits))
    assert np.isfinite(ours).sum() == min(k, size)


def test_top_k_keeps_ties_as_transformers_does():
    logits = np.array([1.0, 3.0, 2.0, 2.0, 2.0, 0.0])
    ours = sampling.keep_top_k(logits, 2)
    assert_same(ours, theirs(TopKLogitsWarper(2), logits))
    assert np.isfinite(ours).tolist() == [False, True, True, True, True, False]


@given(size=sizes, seed=seeds, p=st.floats(0.01, 0.9999), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_top_p_is_transformers(size, seed, p, scale):
    logits = random_logits(size, seed, scale)
    assert_same(sampling.keep_top_p(logits, p), theirs(TopPLogitsWarper(p), logits))


def test_top_p_keeps_the_fewest_tokens_that_reach_p():
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15]))
    for p, expected in [(0.3, {1}), (0.41, {1, 3}), (0.69, {1, 3}), (0.71, {1, 3, 4})]:
        kept = set(np.flatnonzero(np.isfinite(sampling.keep_top_p(logits, p))))
        assert kept == expected, p


def test_top_p_of_equals_keeps_the_lowest_ids():
    kept = np.isfinite(sampling.keep_top_p(np.zeros(1000), 0.4995))
    assert kept.tolist() == [True] * 500 + [False] * 500


def test_top_p_of_one_and_tiny():
    logits = random_logits(40, 1)
    assert np.isfinite(sampling.keep_top_p(logits, 1.0)).all()
    assert np.flatnonzero(np.isfinite(sampling.keep_top_p(logits, 1e-9))) == [logits.argmax()]


@given(size=sizes, seed=seeds, p=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.99, 1.0]))
def test_min_p_is_transformers(size, seed, p):
    logits = random_logits(size, seed)
    assert_same(sampling.keep_min_p(logits, p), theirs(MinPLogitsWarper(p), logits))


def test_min_p_keeps_tokens_as_likely_as_the_likeliest():
    logits = np.array([2.0, 5.0, 5.0, -1.0])
    ours = sampling.keep_min_p(logits, 1.0)
    assert_same(ours, theirs(MinPLogitsWarper(1.0), logits))
    assert np.isfinite(ours).tolist() == [False, True, True, False]


@given(size=sizes, seed=seeds, penalty=st.sampled_from([0.5, 1.0, 1.3, 4.0]))
def test_repetition_penalty_is_transformers(size, seed, penalty):
    logits = random_logits(size, seed)
    seen = np.random.default_rng(seed).integers(0, size, 9)  # with repeats
    ours = sampling.penalise_repetition(logits, seen, penalty)
    assert_same(ours, theirs(RepetitionPenaltyLogitsProcessor(penalty), logits, seen))


@given(size=st.sampled_from([7, 65, 1000]), seed=seeds)
def test_the_order_is_transformers(size, seed):
    """All filters at once, chained by hand in our order and by transformers in theirs."""
    logits = random_logits(size, seed)
    seen = np.random.default_rng(seed).integers(0, size, 5)
    settings = Sampling(0.9, 40, 0.8, 0.1, 1.4)
    ours = settings.filter(sampling.penalise_repetition(logits, seen, 1.4))
    chain = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.4),
            TemperatureLogitsWarper(0.9),
            TopKLogitsWarper(40),
            TopPLogitsWarper(0.8),
            MinPLogitsWarper(0.1),
        ]
    )
    expected = theirs(chain, logits, seen)
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(expected))
    np.testing.assert_allclose(np.exp(ours), np.exp(expected - expected.max()), atol=1e-12)
    p = np.exp(expected) / np.exp(expected).sum()
    chosen = {settings.choose(logits, seen, np.random.default_rng(i)) for i in range(20)}
    assert chosen <= set(np.flatnonzero(p))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_keep_dtype_and_inputs(dtype):
    logits = random_logits(50, 3).astype(dtype)
    original = logits.copy()
    for out in (
        sampling.scale_temperature(logits, 0.7),
        sampling.keep_top_k(logits, 5),
        sampling.keep_top_p(logits, 0.5),
        sampling.keep_min_p(logits, 0.1),
        sampling.penalise_repetition(logits, np.array([1, 2]), 1.5),
    ):
        assert out.dtype == dtype
    np.testing.assert_array_equal(logits, original)


def test_draws_follow_the_probabilities():
    """20 000 draws: each token's count within 5 standard deviations of its expectation."""
    p = np.array([0.5, 0.0, 0.2, 0.25, 0.05])
    logits = np.log(p, where=p > 0, out=np.full(5, -np.inf))
    rng, n = np.random.default_rng(5), 20_000
    counts = np.bincount([sampling.draw(logits, rng) for _ in range(n)], minlength=5)
    assert counts[1] == 0
    assert np.all(np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)))


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_a_token_left_out_is_never_drawn(u):
    """Even at the ends of the interval, and with tokens whose weight underflows to 0."""
    rng = type("Rng", (), {"random": lambda self: u})()
    logits = np.array([-np.inf, -np.inf, 0.0, -2000.0, 1.0, -np.inf])
    assert sampling.draw(logits, rng) == (2 if u == 0 else 4)
    assert sampling.draw(np.array([-2000.0, 0.0, -2000.0], np.float32), rng) == 1


@given(seed=seeds, size=st.integers(1, 50))
def test_the_largest_random_number_draws_the_last_token(seed, size):
    rng = type("Rng", (), {"random": lambda self: 1 - 2**-53})()
    assert sampling.draw(random_logits(size, seed, 0.5), rng) == size - 1


def test_a_tiny_temperature_is_greedy():
    logits = random_logits(30, 2).astype(np.float32)
    rng = np.random.default_rng(0)
    for temperature in (1e-9, 1e-60, 5e-324):
        assert Sampling(temperature=temperature).choose(logits, [], rng) == logits.argmax()


def test_greedy_takes_the_largest_and_the_first_of_equals():
    assert Sampling(greedy=True).choose(np.array([1.0, 4.0, 4.0]), [], None) == 1
    assert (
        Sampling(greedy=True, repetition_penalty=9.0).choose(np.array([1.0, 4.0]), [1], None) == 0
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "settings",
    [{}, {"greedy": True}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.1}, {"temperature": 0.5}],
)
def test_logits_that_are_not_finite_are_refused(bad, settings):
    logits = np.array([0.5, bad, 1.0, 0.0])
    with pytest.raises(UserError, match="weights are damaged"):
        Sampling(**settings).choose(logits, [], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [0, 0.0, -1, np.nan, np.inf, "warm", None, True]),
        ("top_k", [0, -3, 2.5, "many", True]),
        ("top_p", [0, -0.1, 1.01, np.nan, "most"]),
        ("min_p", [-0.01, 1.5, np.nan]),
        ("repetition_penalty", [0, -1, np.inf, None]),
    ],
)
def test_bad_settings_are_named(name, values):
    for value in values:
        with pytest.raises(UserError, match=f"^{name} must be "):
            Sampling(**{name: value})


def test_settings_at_the_edge_of_their_range_are_taken():
    Sampling(temperature=np.float32(0.5), top_k=np.int64(1), top_p=1, min_p=1, repetition_penalty=1)
    Sampling(min_p=0, top_p=1e-12)

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data import Document
from minillm.errors import UserError
from minillm.generation import generate
from minillm.metrics import evaluate
from minillm.models import mixture_weights
from minillm.models.baselines import Unigram
from minillm.models.language_model import LanguageModel, load_model
from minillm.models.mixture import LinearMixture, LogLinearMixture
from minillm.models.next_token import distributions
from minillm.models.ngram import NGram
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcd")
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size
RNG = np.random.default_rng(5)
IDS = RNG.choice(SIZE - 1, 300, p=[0.4, 0.2, 0.15, 0.15, 0.1])
HELD_OUT = RNG.choice(SIZE - 1, 120, p=[0.4, 0.2, 0.15, 0.15, 0.1])
MODELS = {
    "long": NGram.train(IDS, TOKENIZER, order=4),
    "short": NGram.train(IDS, TOKENIZER, order=2, smoothing="witten-bell"),
    "alone": NGram.train(IDS, TOKENIZER, order=3, smoothing="add-k"),
    "holes": NGram.train(IDS, TOKENIZER, order=3, smoothing="mle"),
    "katz": NGram.train(IDS, TOKENIZER, order=3, smoothing="katz"),
    "unigram": Unigram.train(IDS, TOKENIZER),
    "lstm": LanguageModel.create("lstm", TOKENIZER, n_embd=4, n_hidden=8, n_layer=1),
    "gpt": LanguageModel.create("gpt", TOKENIZER, n_embd=8, n_head=2, n_layer=1, block_size=16),
}


def models(*names):
    return [MODELS[name] for name in names]


def p_of(model, context):
    """What a model of any kind says after a context that is not empty."""
    logits = model.step(model.start(1), np.array([context]))[0].astype(float)
    p = np.exp(logits - logits.max())
    return p / p.sum()


@pytest.mark.parametrize("name", MODELS)
def test_whole_distributions_are_those_of_every_step(name, monkeypatch):
    model = MODELS[name]
    ids = np.append(HELD_OUT[:30], [END, END, 5, 0, 1])
    if name == "gpt":
        ids = ids[:16]
    expected = [p_of(model, [END, *ids[:t]]) for t in range(len(ids))]
    for numbers in (1 << 20, 1, 5 * SIZE):
        monkeypatch.setattr("minillm.models.next_token.NUMBERS_AT_ONCE", numbers)
        found = np.concatenate(list(distributions(model, ids)))
        assert np.allclose(found, expected, rtol=1e-5 if name in ("gpt", "lstm") else 1e-12)


@given(
    names=st.lists(st.sampled_from(sorted(MODELS)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    context=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=8),
)
def test_mixtures_by_their_formulas(names, seed, context):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(len(names)))
    ps = [p_of(m, context) for m in models(*names)]
    linear = LinearMixture(models(*names), weights).next_distribution(context)
    assert abs(linear.sum() - 1) < 1e-10
    assert np.allclose(linear, sum(w * p for w, p in zip(weights, ps, strict=True)), rtol=1e-5)
    weights *= rng.choice([0, 1, 3], len(names))
    log_linear = LogLinearMixture(models(*names), weights).next_distribution(context)
    assert abs(log_linear.sum() - 1) < 1e-10
    product = np.prod([p**w for w, p in zip(weights, ps, strict=True)], axis=0)
    expected = product / product.sum() if product.sum() else np.full(SIZE, 1 / SIZE)
    assert np.allclose(log_linear, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", [LinearMixture, LogLinearMixture])
def test_the_whole_surface(kind, tmp_path):
    mixture = kind(models("long", "short", "lstm"), [0.5, 0.3, 0.2])
    nats, correct = mixture.score(HELD_OUT)
    rows = [mixture.next_distribution([END, *HELD_OUT[:t]]) for t in range(len(HELD_OUT))]
    expected = [row[t] for row, t in zip(rows, HELD_OUT, strict=True)]
    assert np.allclose(np.exp(-nats), expected, rtol=1e-5)
    assert np.mean(correct == [r.argmax() == t for r, t in zip(rows, HELD_OUT, strict=True)]) > 0.98
    past = mixture.start(2)
    mixture.step(past, np.array([[0, 1], [2, 3]]))
    log_p = mixture.step(mixture.reorder(past, np.array([1, 1])), np.array([[0], [1]]))
    assert np.allclose(np.exp(log_p[0]), mixture.next_distribution([2, 3, 0]), rtol=1e-5)
    assert np.allclose(np.exp(log_p[1]), mixture.next_distribution([2, 3, 1]), rtol=1e-5)
    assert len(generate(mixture, [0], max_new_tokens=5, rng=0)) == 5
    assert 0 < mixture.entropy([0, 1]) < math.log(SIZE)
    assert mixture.sample(np.random.default_rng(0), n=4, context=[END]).shape == (4,)
    assert evaluate(mixture, [Document("x", "abca")]).perplexity > 1
    mixture.save(tmp_path)
    for load in (kind.load, load_model):
        assert np.allclose(load(tmp_path).score(HELD_OUT)[0], nats, rtol=1e-12)
    assert mixture.n_parameters == sum(m.n_parameters for m in mixture.models) + 3
    with pytest.raises(UserError, match="-mixture', expected "):
        next(k for k in (LinearMixture, LogLinearMixture) if k is not kind).load(tmp_path)


def test_em_finds_the_weights_by_hand():
    # two tokens to which only one model gives anything, one to which only the other does
    weights, values = mixture_weights.em(np.array([[0.5, 0], [0.5, 0], [0, 0.1]]))
    assert np.allclose(weights, [2 / 3, 1 / 3], rtol=1e-6)
    assert np.all(np.diff(values) >= 0)


def test_em_is_at_the_maximum():
    mixture = LinearMixture.fit(models("long", "short", "unigram", "holes"), HELD_OUT)
    assert mixture.weights.sum() == pytest.approx(1)
    best = mixture.score(HELD_OUT)[0].mean()
    for i in range(4):
        for j in range(4):
            moved = mixture.weights.copy()
            moved[i] -= min(0.01, moved[i])
            moved[j] += 1 - moved.sum()
            other = LinearMixture(mixture.models, moved).score(HELD_OUT)[0].mean()
            assert other > best - 1e-6
    for model in mixture.models[:3]:
        assert best < model.score(HELD_OUT)[0].mean() + 1e-6


def test_newton_is_at_the_maximum_and_better_than_any_of_its_models():
    mixture = LogLinearMixture.fit(models("long", "short", "unigram", "alone"), HELD_OUT)
    best = mixture.score(HELD_OUT)[0].mean()
    assert np.all(mixture.weights >= 0)
    for i in range(4):
        for step in (-0.02, 0.02):
            moved = np.maximum(mixture.weights + step * (np.arange(4) == i), 0)
            assert LogLinearMixture(mixture.models, moved).score(HELD_OUT)[0].mean() > best - 1e-9
    for model in mixture.models:
        assert best < model.score(HELD_OUT)[0].mean() + 1e-9


def test_what_cannot_be_fitted_is_said(monkeypatch):
    mixture = LinearMixture.fit(models("holes"), [5, 0, 1])
    assert mixture.notes == [
        "1 held-out tokens are impossible to every model, the first at position 0: left out"
    ]
    with pytest.raises(UserError, match="no token of the held-out text is possible"):
        LinearMixture.fit(models("holes"), [5, 5])
    with pytest.raises(UserError, match=r"model 1 .* thinks token . impossible at position 0"):
        LogLinearMixture.fit(models("long", "holes"), HELD_OUT)
    monkeypatch.setattr(mixture_weights, "NUMBERS", 50 * SIZE * 2)
    mixture = LogLinearMixture.fit(models("long", "short"), HELD_OUT)
    assert mixture.notes == ["weights found on the first 50 of 120 held-out tokens"]
    for kind in (LinearMixture, LogLinearMixture):
        with pytest.raises(UserError, match="no held-out text"):
            kind.fit(models("long"), [])


def test_what_cannot_be_mixed_is_refused():
    other = Unigram.train(IDS, CharTokenizer("abce"))
    score = NGram.train(IDS, TOKENIZER, order=2, smoothing="stupid-backoff")
    for wrong, weights, message in (
        ([], [], "at least one model"),
        ([*models("long"), other], [0.5, 0.5], "model 1 .* another tokenizer"),
        ([score], [1], "model 0 .* gives scores"),
        (models("long"), [0.5, 0.5], "weights must be 1 numbers"),
        (models("long", "short"), [1.5, -0.5], "of at least 0"),
    ):
        for kind in (LinearMixture, LogLinearMixture):
            with pytest.raises(UserError, match=message):
                kind(wrong, weights)
    with pytest.raises(UserError, match=r"must sum to 1, got 0\.5"):
        LinearMixture(models("long"), [0.5])

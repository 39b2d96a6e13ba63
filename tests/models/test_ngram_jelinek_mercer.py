import math

import numpy as np
import pytest

from minillm.models import ngram_jelinek_mercer
from minillm.models.ngram import NGram
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_jelinek_mercer import fit_weights
from minillm.tokenizers import CharTokenizer
from tests.models.ngram_oracle import BruteForce

TOKENIZER = CharTokenizer("abcd")
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size


def text(seed, n):
    rng = np.random.default_rng(seed)
    ids = [0]
    for _ in range(n - 1):  # what comes next depends on what came last
        ids.append(int((ids[-1] + rng.choice(3, p=[0.1, 0.7, 0.2])) % (SIZE - 1)))
    return np.array(ids)


def fit(ids, held_out, order, buckets):
    counts = count_ngrams(ids, order=order, vocab_size=SIZE, end_id=END)
    return fit_weights(counts, held_out, buckets=buckets, vocab_size=SIZE, end_id=END)


def one_em_step(oracle, weights, held_out, buckets):
    """EM by the book: for each token and each length the chance that it came from there."""
    order = len(weights)
    stayed = [[0.0] * buckets for _ in weights]
    came = [[0.0] * buckets for _ in weights]
    document = [END]
    for token in held_out.tolist():
        options, left = [], 1.0
        for n in range(order, 0, -1):
            context = tuple(document[len(document) - n + 1 :])
            seen = oracle.followers[context] if n <= len(document) + 1 else {}
            if len(context) < n - 1 or not seen:
                continue
            total = sum(seen.values())
            b = min(int(math.log2(total)), buckets - 1)
            options.append((n, b, left * weights[n - 1][b] * seen.get(token, 0) / total))
            left *= 1 - weights[n - 1][b]
        p = sum(share for *_, share in options) + left / SIZE
        rest = 1.0
        for n, b, share in options:
            came[n - 1][b] += rest
            stayed[n - 1][b] += share / p
            rest -= share / p
        document = [END] if token == END else [*document, token]
    return [
        [s / c if c else w for s, c, w in zip(*rows, strict=True)]
        for rows in zip(stayed, came, weights, strict=True)
    ]


@pytest.mark.parametrize("buckets", [1, 4])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_one_step_of_em_by_the_book(monkeypatch, order, buckets):
    monkeypatch.setattr(ngram_jelinek_mercer, "STEPS", 1)
    ids, held_out = text(0, 150), text(1, 80)
    found, notes, _ = fit(ids, held_out, order, buckets)
    oracle = BruteForce(ids.tolist(), order, SIZE, END, "mle")
    start = one_em_step(oracle, [[0.5]] * order, held_out, 1)
    expected = (
        start
        if buckets == 1
        else one_em_step(oracle, [[w[0]] * buckets for w in start], held_out, buckets)
    )
    assert np.allclose(found, expected, rtol=1e-10)
    assert notes == []


@pytest.mark.parametrize("buckets", [1, 5])
def test_em_never_lowers_the_likelihood_and_ends_where_it_is_flat(buckets):
    ids, held_out = text(0, 3000), text(1, 1000)
    weights, _, nats = fit(ids, held_out, 4, buckets)
    assert np.all(np.diff(nats) <= 1e-12)
    assert 2 < len(nats) < ngram_jelinek_mercer.STEPS

    def total(weights):
        settings = {"order": 4, "smoothing": "jelinek-mercer", "buckets": buckets}
        model = NGram.train(ids, TOKENIZER, weights=weights, **settings)
        return model.score(held_out)[0].mean()

    best = total(weights)
    assert best == pytest.approx(nats[-1], abs=1e-6)
    for n in range(4):
        for step in (-0.05, 0.05):
            moved = [list(w) for w in weights]
            moved[n] = [min(max(w + step, 0), 0.999) for w in moved[n]]
            assert total(moved) > best - 1e-4


def test_without_held_out_text_the_last_tenth_serves():
    ids = text(0, 500)
    model = NGram.train(ids, TOKENIZER, order=3, smoothing="jelinek-mercer")
    assert model.notes == ["weights found on the last 50 tokens, the rest counted"]
    assert model.config.weights == fit(ids[:450], ids[450:], 3, 1)[0]
    given = NGram.train(ids, TOKENIZER, order=3, smoothing="jelinek-mercer", held_out=text(1, 100))
    assert given.config.weights == fit(ids, text(1, 100), 3, 1)[0]
    assert given.notes == []


def test_without_evidence_the_weights_are_a_half_and_it_says_so():
    model = NGram.train(np.array([0, 1]), TOKENIZER, order=2, smoothing="jelinek-mercer")
    assert model.config.weights == ((0.5,), (0.5,))
    assert model.notes[1:] == [
        f"length {n}: no held-out token after a context that was seen, weight 0.5 taken"
        for n in (1, 2)
    ]

"""Against NLTK, where it is right.

It is given our n-grams: it would pad a document with several start tokens, after which its
Kneser-Ney sums to more than 1 (1.0038 after two of them). Its interpolated models end in relative
frequencies, ours in the uniform distribution below them: it is given our unigrams' probabilities,
and all else is compared.
"""

import numpy as np
import pytest
from nltk.lm import (
    MLE,
    AbsoluteDiscountingInterpolated,
    KneserNeyInterpolated,
    Lidstone,
    StupidBackoff,
    WittenBellInterpolated,
)
from nltk.probability import FreqDist, SimpleGoodTuringProbDist

from minillm.models import ngram_good_turing
from minillm.models.ngram import NGram
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcd")
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size
WORDS = ["a", "b", "c", "d", "</s>", "<UNK>"]
ORDER = 3
MODELS = {
    "mle": (lambda: MLE(ORDER), {}),
    "add-k": (lambda: Lidstone(0.3, ORDER), {"k": 0.3}),
    "witten-bell": (lambda: WittenBellInterpolated(ORDER), {}),
    "absolute-discounting": (
        lambda: AbsoluteDiscountingInterpolated(ORDER, discount=0.6),
        {"discount": 0.6},
    ),
    "kneser-ney": (lambda: KneserNeyInterpolated(ORDER, discount=0.6), {"discount": 0.6}),
    "stupid-backoff": (lambda: StupidBackoff(0.4, ORDER), {"factor": 0.4}),
}


def grams_of(ids):
    """The n-grams of each document, as words, by our convention."""
    for document in np.split(ids, np.flatnonzero(ids == END) + 1):
        words = [WORDS[i] for i in (END, *document)]
        yield [
            tuple(words[t - n + 1 : t + 1])
            for t in range(1, len(words))
            for n in range(1, min(ORDER, t + 1) + 1)
        ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_nltk(name, seed):
    rng = np.random.default_rng(seed)
    ids = rng.choice(SIZE - 1, 60, p=[0.4, 0.3, 0.05, 0.05, 0.2])
    make, settings = MODELS[name]
    ours = NGram.train(ids, TOKENIZER, order=ORDER, smoothing=name, **settings)
    theirs = make()
    theirs.fit(grams_of(ids), vocabulary_text=WORDS[:-1])
    assert len(theirs.vocab) == SIZE
    unigrams = ours.levels[0].p
    if hasattr(theirs, "estimator"):
        theirs.estimator.unigram_score = lambda word: unigrams[WORDS.index(word)]
    compared = 0
    for context in [(), *((a,) for a in range(SIZE)), *np.ndindex(SIZE, SIZE)]:
        names = tuple(WORDS[i] for i in context)
        seen = theirs.counts[names] if names else theirs.counts.unigrams
        if END in context[1:] or (name == "mle" and not seen):
            continue  # a document's end is forgotten here; 0 of 0 is 0 to NLTK's MLE
        if name == "kneser-ney" and END in context[:1] and len(context) < ORDER - 1:
            continue  # nothing precedes it: NLTK divides by zero
        expected = [theirs.score(word, names) for word in WORDS]
        past = ours.start(1)
        p = (
            np.exp(ours.step(past, np.array([context]))[0])
            if context
            else ours._distribution(past[0])
        )
        assert np.allclose(p, expected, rtol=1e-10, atol=1e-12)
        compared += 1
    assert compared > 15


def test_good_turing_equals_nltk(monkeypatch):
    monkeypatch.setattr(ngram_good_turing, "SIGNIFICANT", 1.96)  # NLTK's choice; theirs is 1.65
    tokenizer = CharTokenizer("".join(map(chr, range(200, 500))))
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, 301) ** 1.3
    ids = rng.choice(300, 900, p=p / p.sum())
    ours = NGram.train(ids, tokenizer, order=1, smoothing="good-turing")
    theirs = SimpleGoodTuringProbDist(FreqDist(ids.tolist()), bins=tokenizer.vocab_size)
    expected = [theirs.prob(i) for i in range(tokenizer.vocab_size)]
    assert ours.notes == []
    assert np.allclose(ours.next_distribution(), expected, rtol=1e-10, atol=0)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.models.ngram import NGram
from minillm.models.ngram_simple import SIMPLE, SimpleKatz, SimpleNGram
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcd")
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size


@pytest.mark.parametrize("name", [*SIMPLE, "katz"])
@given(order=st.integers(1, 4), seed=st.integers(0, 999), n=st.sampled_from([1, 5, 40, 300]))
def test_the_fast_model_is_the_simple_one(name, order, seed, n):
    rng = np.random.default_rng(seed)
    ids = rng.choice(SIZE - 1, n, p=rng.dirichlet(np.full(SIZE - 1, 0.7)))
    sizes = {"order": order, "vocab_size": SIZE, "end_id": END}
    if name == "katz":
        simple = SimpleKatz(ids.tolist(), **sizes)
    else:
        simple = SimpleNGram(ids.tolist(), **sizes, smoothing=name)
    fast = NGram.train(ids, TOKENIZER, order=order, smoothing=name)
    for length in range(6):
        context = rng.integers(0, SIZE, length)
        expected = [simple.p(token, tuple(context.tolist())) for token in range(SIZE)]
        assert np.allclose(fast.next_distribution(context), expected, rtol=1e-9, atol=1e-12)


def test_places_are_the_different_tokens_before():
    """2 came twice, but always after 0; n-grams at a document's start keep their counts."""
    model = SimpleNGram([0, 2, 0, 2, 1, 0, END], order=2, vocab_size=SIZE, end_id=END)
    times = model.count([0, 2, 0, 2, 1, 0, END])
    assert times[()] == {0: 3, 1: 1, 2: 2, END: 1}
    assert times[(0,)] == {2: 2, END: 1}
    assert model.followers[()] == {0: 3, 1: 1, 2: 1, END: 1}
    assert {context: seen for context, seen in model.followers.items() if context} == {
        context: seen for context, seen in times.items() if context
    }


def test_documents_do_not_reach_into_each_other():
    model = SimpleNGram([0, END, 1, END], order=3, vocab_size=SIZE, end_id=END, smoothing="mle")
    assert set(model.followers) == {(), (END,), (0,), (END, 0), (1,), (END, 1)}
    assert model.followers[(END,)] == {0: 1, 1: 1}

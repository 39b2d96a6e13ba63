import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.models.ngram import NGram
from minillm.models.ngram_simple import SIMPLE, SimpleNGram
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcd")
END, SIZE = TOKENIZER.end_id, TOKENIZER.vocab_size


@pytest.mark.parametrize("name", SIMPLE)
@given(order=st.integers(1, 4), seed=st.integers(0, 999), n=st.sampled_from([1, 5, 40, 300]))
def test_the_fast_model_is_the_simple_one(name, order, seed, n):
    rng = np.random.default_rng(seed)
    ids = rng.choice(SIZE - 1, n, p=rng.dirichlet(np.full(SIZE - 1, 0.7)))
    simple = SimpleNGram(ids.tolist(), order=order, vocab_size=SIZE, end_id=END, smoothing=name)
    fast = NGram.train(ids, TOKENIZER, order=order, smoothing=name)
    for length in range(6):
        context = rng.integers(0, SIZE, length)
        expected = [simple.p(token, tuple(context.tolist())) for token in range(SIZE)]
        assert np.allclose(fast.next_distribution(context), expected, rtol=1e-9, atol=1e-12)

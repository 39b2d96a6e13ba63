import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data import Document, encode_documents
from minillm.errors import UserError
from minillm.metrics import accuracy, bits_per_byte, evaluate, perplexity
from minillm.metrics.evaluate import Impossible, Overflow
from minillm.metrics.language import ImpossibleToken, PerplexityOverflow
from minillm.models.baselines import Uniform, Unigram
from minillm.models.ngram import NGram
from minillm.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer, make_tokenizer

EPS = np.finfo(np.float64).eps
ENGLISH = "The lamp is lit, the kettle hums, and nobody has come yet."
CHINESE = "灯亮了,水开了,还没有人来。"
DOCUMENTS = [Document("a", ENGLISH), Document("b", CHINESE), Document("c", "")]


def test_by_hand():
    nats = np.log([2.0, 4.0, 8.0])  # 1 + 2 + 3 bits
    assert bits_per_byte(nats, 3) == pytest.approx(2, rel=4 * EPS)
    assert bits_per_byte(nats, 6, unknown_bytes=3) == pytest.approx((6 + 24) / 6, rel=4 * EPS)
    assert perplexity(nats) == pytest.approx(4, rel=8 * EPS)
    with pytest.warns(
        ImpossibleToken, match="2 tokens have probability 0, the first at position 1"
    ):
        assert perplexity([0.0, math.inf, math.inf]) == math.inf
    assert accuracy([1, 2, 3, 4], [1, 0, 3, 0]) == 0.5
    assert accuracy([[1, 2], [3, 4]], [[1, -100], [-100, 0]]) == 0.5


def test_a_perplexity_beyond_float64_says_so():
    assert perplexity([709.7, 709.7]) == pytest.approx(math.exp(709.7))
    message = "beyond float64: a token needs 800.0 nats on average, .* 1,200.0, at position 1"
    with pytest.warns(PerplexityOverflow, match=message):
        assert perplexity([400.0, 1200.0]) == math.inf


def test_float32_nats_are_summed_in_float64():
    nats = np.full(10**6, 0.1, np.float32)
    assert perplexity(nats) == pytest.approx(math.exp(np.float32(0.1)), rel=1e-10)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="NaN at position 1"):
        bits_per_byte([0.0, math.nan], 4)
    for nats in ([0.0, math.nan], [math.inf, math.nan]):
        with pytest.raises(ValueError, match="NaN at position 1"):
            perplexity(nats)
    with pytest.raises(ValueError, match=r"nats must be numbers, got \{\}"):
        perplexity({})
    with pytest.raises(ValueError, match="at least one token"):
        perplexity([])
    for n_bytes, unknown in ((0, 0), (3, 4), (3, -1), (None, 0), (3, 1.5), (True, 0)):
        with pytest.raises(ValueError, match=f"got {n_bytes} and {unknown}"):
            bits_per_byte([1.0], n_bytes, unknown)
    with pytest.raises(ValueError, match=r"target must have shape \(2,\), got \(3,\)"):
        accuracy([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least one position"):
        accuracy([1], [-100])


@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_uniform_over_bytes_needs_log2_257_bits_a_token(texts):
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    n_bytes = len("".join(texts).encode())
    if n_bytes == 0:
        with pytest.raises(UserError, match="no text to evaluate on"):
            evaluate(Uniform(ByteTokenizer()), documents)
        return
    found = evaluate(Uniform(ByteTokenizer()), documents)
    tokens = n_bytes + len(texts)
    assert found.bits_per_byte == pytest.approx(math.log2(257) * tokens / n_bytes, rel=1e-12)
    assert found.perplexity == pytest.approx(257, rel=1e-12)
    assert found.nats_per_token == pytest.approx(math.log(257), rel=1e-12)
    assert (found.tokens, found.bytes, found.context) == (tokens, n_bytes, "nothing")
    assert found.accuracy == "".join(texts).encode().count(0) / tokens


def test_uniform_over_characters_by_hand():
    tokenizer = make_tokenizer("char", ENGLISH + CHINESE)
    found = evaluate(Uniform(tokenizer), DOCUMENTS)
    tokens = len(ENGLISH) + len(CHINESE) + 3
    n_bytes = len(ENGLISH) + len(CHINESE.encode())
    expected = math.log2(len(set(ENGLISH + CHINESE)) + 2) * tokens / n_bytes
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-12)
    assert found.tokens == tokens


def test_an_unknown_character_pays_eight_bits_a_byte():
    tokenizer = CharTokenizer("ab")  # four ids, two bits each
    found = evaluate(Uniform(tokenizer), [Document("d", "a水b!")])
    assert found.bits_per_byte == pytest.approx((5 * 2 + 8 * (3 + 1)) / 6, rel=1e-12)


def test_characters_and_bytes_agree_where_they_are_the_same():
    # Of ASCII text the tokens are the same events under other names: with the same smoothing mass
    # the unigram models' bits differ by the vocabularies' sizes alone, which can be taken out.
    text = ENGLISH * 50
    documents = [Document("d", text)]
    totals = []
    for kind in ("char", "byte"):
        tokenizer = make_tokenizer(kind, text)
        ids = encode_documents(documents, tokenizer)
        found = evaluate(Unigram.train(ids, tokenizer), documents)
        normaliser = len(ids) * math.log2(len(ids) + tokenizer.vocab_size)
        totals.append(found.bits_per_byte * found.bytes - normaliser)
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)


def test_ngrams_over_characters_and_bytes_stand_in_one_table():
    documents = [Document(str(i), CHINESE * 4 + ENGLISH * 4) for i in range(3)]
    found = []
    for kind in ("char", "byte"):
        tokenizer = make_tokenizer(kind, documents[0].text)
        ids = encode_documents(documents[:2], tokenizer)
        found.append(evaluate(NGram.train(ids, tokenizer, order=6), documents[2:]))
    assert found[0].bytes == found[1].bytes
    assert found[0].tokens < found[1].tokens
    assert found[0].perplexity > found[1].perplexity  # not comparable, the bits per byte are:
    assert abs(found[0].bits_per_byte - found[1].bits_per_byte) < 0.1
    assert max(found[0].bits_per_byte, found[1].bits_per_byte) < 1


def test_a_lossy_tokenizer_gets_none():
    class Lossy(CharTokenizer):
        lossless = False

        def _text_of(self, ids):
            return super()._text_of(ids).upper()

    found = evaluate(Uniform(Lossy("ab")), [Document("d", "abba")])
    assert found.bits_per_byte is None
    assert found.perplexity == pytest.approx(4, rel=8 * EPS)
    assert str(found).startswith("n/a bits per byte, perplexity 4.00, accuracy 40.0% over 5 tokens")
    huge = dataclasses.replace(found, perplexity=4.22e46)
    assert str(huge).startswith("n/a bits per byte, perplexity 4.220e+46, accuracy")


def test_a_lossy_tokenizer_has_bits_where_it_gives_the_text_back():
    tokenizer = WordTokenizer.train("so it is", split="whitespace")
    model = Uniform(tokenizer)
    bits = math.log2(tokenizer.vocab_size)
    found = evaluate(model, [Document("d", "it is so"), Document("e", "is unheard of")])
    assert found.bits_per_byte == pytest.approx((8 * bits + 8 * len("unheardof")) / 21, rel=1e-12)
    assert evaluate(model, [Document("d", "it  is so")]).bits_per_byte is None


def test_newlines_are_bytes_where_each_line_is_a_document():
    model = Uniform(ByteTokenizer())
    whole = [Document("a", "ab"), Document("b", "c")]
    found = evaluate(model, whole, more_bytes=2)
    assert found.bytes == 5
    assert found.bits_per_byte == pytest.approx(math.log2(257), rel=1e-12)


class Given(Uniform):
    """A model with the nats that it is given."""

    def __init__(self, tokenizer, nats):
        super().__init__(tokenizer)
        self.nats = np.array(nats)

    def score(self, ids):
        return self.nats, np.zeros(len(ids), bool)


@pytest.mark.parametrize("other", [1.0, math.inf])
def test_a_damaged_model_is_named(other):
    model = Given(ByteTokenizer(), [1.0, other, math.nan, 1.0])
    with pytest.raises(ValueError, match="NaN at position 2"):
        evaluate(model, [Document("d", "abc")])


def test_the_worst_token_is_named_where_the_perplexity_is_beyond_float64():
    model = Given(CharTokenizer("ab"), [400.0, 1200.0, 900.0, 400.0])
    found = evaluate(model, [Document("x", "ab"), Document("y", "")])
    assert found.perplexity == math.inf
    assert found.nats_per_token == 725
    assert found.bits_per_byte == pytest.approx(2900 / math.log(2) / 2)
    assert found.impossible is None
    assert found.overflow == found.why_infinite == Overflow(1200.0, 1, 1, "b", "a")
    assert str(found).endswith(
        ". the perplexity is beyond float64: the worst token, 'b' (id 1) at position 1, after 'a', "
        "needs 1,200.0 nats"
    )


def test_the_first_impossible_token_is_named():
    tokenizer = CharTokenizer("ab")
    model = NGram.train(np.array([0, 1, 2, 0, 1, 2]), tokenizer, order=2, smoothing="mle")
    found = evaluate(model, [Document("x", "ab"), Document("y", "abb"), Document("z", "b")])
    assert found.perplexity == found.bits_per_byte == math.inf
    assert found.impossible == found.why_infinite == Impossible(2, 5, 1, "b", "ab")
    assert found.overflow is None
    assert str(found).endswith(
        ". 2 tokens are impossible to the model, the first 'b' (id 1) at position 5, after 'ab'"
    )
    found = evaluate(model, [Document("x", "b")])
    assert str(found).endswith(
        ". 1 token is impossible to the model: 'b' (id 1) at position 0, at a document's start"
    )
    found = evaluate(model, [Document("x", "abab")])
    assert (found.impossible.text, found.impossible.before) == ("a", "ab")
    found = evaluate(model, [Document("x", "a")])
    assert found.impossible.text == "<|endoftext|>"
    assert evaluate(model, [Document("x", "ab")]).impossible is None


def test_a_score_is_no_perplexity():
    tokenizer = CharTokenizer("ab")
    ids = np.array([0, 1, 2, 0, 1, 2])
    model = NGram.train(ids, tokenizer, order=2, smoothing="stupid-backoff")
    found = evaluate(model, [Document("x", "abb")])
    assert found.bits_per_byte is None
    assert math.isnan(found.perplexity)
    assert math.isnan(found.nats_per_token)
    assert found.accuracy == 0.75
    assert str(found).startswith(
        "no bits or perplexity, for the model gives scores and not probabilities, accuracy 75.0% "
    )

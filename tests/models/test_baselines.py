import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.baselines import Uniform, Unigram
from minillm.tokenizers import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer("水月山")  # ids 0, 1, 2, the end 3, the unknown one 4


def models():
    return [Uniform(TOKENIZER), Unigram.train(np.array([1, 1, 0, 3]), TOKENIZER)]


def test_uniform_by_hand():
    model = Uniform(ByteTokenizer())
    nats, correct = model.score([0, 256, 7])
    assert nats.tolist() == [np.log(257)] * 3
    assert correct.tolist() == [True, False, False]
    assert (model.kind, model.n_parameters, model.vocab_size) == ("uniform", 0, 257)


def test_unigram_by_hand():
    model = models()[1]
    expected = np.array([2, 3, 1, 2, 1]) / (4 + 5)
    assert np.array_equal(model.next_distribution([0, 1]), expected)
    nats, correct = model.score([0, 1, 4])
    assert np.array_equal(nats, -np.log(expected[[0, 1, 4]]))
    assert correct.tolist() == [False, True, False]
    assert (model.kind, model.n_parameters, model.vocab_size) == ("unigram", 5, 5)


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_the_stated_surface(model, tmp_path):
    assert abs(model.next_distribution().sum() - 1) < 1e-15
    assert (model.context, model.block, model.tokenizer) == ("nothing", None, TOKENIZER)
    past = model.start(2)
    logits = model.step(past, np.array([[0, 1], [2, 3]]))
    assert np.array_equal(logits, np.log([model.next_distribution()] * 2))
    assert model.step(model.reorder(past, [1, 0, 1]), np.zeros((3, 1), int)).shape == (3, 5)
    assert [part.shape for part in model.score([])] == [(0,), (0,)]
    model.save(tmp_path)
    loaded = type(model).load(tmp_path)
    assert np.array_equal(loaded.score([0, 1, 2, 3, 4]), model.score([0, 1, 2, 3, 4]))
    assert loaded.tokenizer.to_dict() == TOKENIZER.to_dict()


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_wrong_input_is_named(model):
    with pytest.raises(ValueError, match="got 5 at position 1"):
        model.score([0, 5])
    with pytest.raises(ValueError, match="got 9 at position 0"):
        model.step(model.start(), [[9]])
    with pytest.raises(ValueError, match=r"shape \(2, n\), n >= 1, got \(1, 2\)"):
        model.step(model.start(2), [[0, 1]])
    with pytest.raises(ValueError, match="got -1 at position 0"):
        model.next_distribution([-1])


def test_unigram_refuses_what_it_cannot_count():
    with pytest.raises(UserError, match="no text to count"):
        Unigram.train([], TOKENIZER)
    with pytest.raises(ValueError, match=r"5 whole numbers .* got int64 of shape \(4,\)"):
        Unigram(TOKENIZER, np.ones(4, int))
    with pytest.raises(ValueError, match="5 whole numbers"):
        Unigram(TOKENIZER, np.array([1, -1, 1, 1, 1]))


def test_a_saved_unigram_without_its_counts(tmp_path):
    models()[1].save(tmp_path)
    other = tmp_path / "other"
    Uniform(TOKENIZER).save(other)
    (tmp_path / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(UserError, match="not a whole unigram model: 'counts'"):
        Unigram.load(tmp_path)

"""Operations counted by doing them, against counts by hand."""

import numpy as np
import pytest

import minillm
from minillm.models.language_model import LanguageModel
from minillm.ops import gelu, linear, softmax
from minillm.tokenizers import CharTokenizer
from minillm.training.flops import CountedArray, counted, counting, step_flops

CHARS = CharTokenizer("abcdefgh")
V = CHARS.vocab_size
RNG = np.random.default_rng(0)


def test_a_linear_layer_by_hand():
    x, weight, bias = (RNG.standard_normal(s) for s in ((2, 3, 5), (5, 7), (7,)))
    with minillm.backend("numpy"), counting() as flops:
        y, cache = linear(counted(x), weight, bias)
        assert (flops.products, flops.elementwise) == (2 * 6 * 5 * 7, 6 * 7)
        linear.backward(y, cache)
    assert flops.products == 3 * 2 * 6 * 5 * 7  # dx and dweight are as large as y
    assert flops.elementwise == 6 * 7 + 5 * 7  # y + bias; dbias adds 6 rows to one
    assert flops.total == flops.products + flops.elementwise


def test_what_is_counted_and_what_is_not():
    x = RNG.standard_normal((4, 6))
    with counting() as flops:
        a = counted(x)
        np.add.at(a, [0, 0], np.ones((2, 6)))
        assert flops.elementwise == 12
        a[:, :3] = a[:, 3:]
        np.arange(4) + counted(np.arange(4))
        assert flops.elementwise == 12  # moving numbers and adding whole ones is free
        np.exp(a, a)
        assert flops.elementwise == 36
        assert np.divmod(a, 2.0)[0].shape == (4, 6)
        assert flops.elementwise == 60
        a.dot(x.T)
        np.vecdot(a, a)
        assert flops.products == 2 * 4 * 4 * 6 + 2 * 4 * 6
        x @ x.T
        assert flops.products == 2 * 4 * 4 * 6 + 2 * 4 * 6
    a @ a.T
    assert flops.products == 2 * 4 * 4 * 6 + 2 * 4 * 6  # the block is over


def test_counting_changes_no_result():
    x = RNG.standard_normal((3, 5))
    for op in (gelu, softmax):
        with minillm.backend("numpy"):
            plain, _ = op(x)
            with counting() as flops:
                same, _ = op(counted(x))
        assert isinstance(same, CountedArray)
        np.testing.assert_array_equal(np.asarray(same), plain)
        assert flops.elementwise > x.size
    assert isinstance(counted({"a": [x]})["a"][0], CountedArray)


def test_what_is_made_on_the_way_counts_too():
    a = counted(RNG.standard_normal((4, 6)))
    made = np.zeros((4, 6), like=a), np.where(a > 0, a, 0), np.concatenate([a, a]), a.copy()
    assert all(isinstance(x, CountedArray) for x in made)
    with counting() as flops:
        made[0] @ np.ones((6, 2))
    assert flops.products == 2 * 4 * 6 * 2


@pytest.mark.parametrize(("batch", "position"), [(1, "learned"), (3, "learned"), (2, "rotary")])
def test_a_gpts_step_by_formula(batch, position):
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 12, "block_size": 10, "position": position}
    model = LanguageModel.create("gpt", CHARS, **shape)
    T, C, L = 7, 12, 2
    weights = L * 12 * C**2 + V * C
    # a token's two products, queries with keys and weights with values, have two gradients each,
    # and flash attention does the first of them once more in backward
    attention = L * (6 + 1) * 2 * T * C
    flops = step_flops(model, block=T, batch=batch)
    assert flops.products == batch * T * (6 * weights + attention)
    assert 0 < flops.elementwise < flops.products


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_a_recurrent_models_step_by_formula(kind, gates):
    model = LanguageModel.create(kind, CHARS, n_layer=1, n_embd=5, n_hidden=6)
    T, C, K = 7, 5, 6
    weights = gates * (C * K + K * K) + V * K
    assert step_flops(model, block=T, batch=2).products == 6 * 2 * T * weights


def test_a_block_of_nothing_is_refused():
    with pytest.raises(ValueError, match="block and batch must be at least 1, got 0 and 1"):
        step_flops(LanguageModel.create("gru", CHARS), block=0)

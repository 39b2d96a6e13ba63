import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops.dropout import dropout
from minillm.ops.embedding_recurrent import LAYERS, embedding_recurrent
from minillm.ops.fast.embedding_recurrent import _pays
from tests.ops.harness import (
    BACKENDS,
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)
from tests.ops.recurrent_cases import layers_case, torch_layers

# (V, B, T, C, K, L): one row for each token, which pays below, then as many tokens as places
FEW, MANY = [(3, 4, 6, 5, 2, 2), (1, 2, 3, 4, 1, 1)], [(7, 2, 3, 4, 5, 2), (5, 1, 1, 1, 2, 1)]
CELLS = st.sampled_from(["rnn", "lstm", "gru"])
SEEDS = st.integers(0, 2**32 - 1)


def case(cell, shape, seed, with_state=True):
    vocabulary, *rest = shape
    rng = rng_of("embedding_recurrent", cell, shape, seed)
    x, state, params = layers_case(rng, cell, tuple(rest), with_state=with_state)
    ids = rng.integers(vocabulary, size=x.shape[:2])
    return (randn(rng, vocabulary, x.shape[-1]), state, params), {"ids": ids, "cell": cell}


def test_both_ways_are_taken():
    assert all(_pays(np.ones((s[0], s[3])), np.ones(s[1:3])) for s in FEW)
    assert not any(_pays(np.ones((s[0], s[3])), np.ones(s[1:3])) for s in MANY)


@settings(max_examples=12)
@given(cell=CELLS, shape=st.sampled_from(FEW + MANY), seed=SEEDS, with_state=st.booleans())
def test_agrees_with_both_oracles(cell, shape, seed, with_state):
    args, kwargs = case(cell, shape, seed, with_state)

    def oracle(weight, state, params):
        return torch_layers(cell, weight[torch.tensor(kwargs["ids"])], state, params)

    check_op(embedding_recurrent, args, kwargs, oracle=oracle, seed=seed)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_dropout_lies_behind_the_embedding_too(cell):
    args, kwargs = case(cell, FEW[0], 2)
    rng = np.random.default_rng(3)
    masks = [dropout(np.ones((4, 6, width)), p=0.4, rng=rng)[0] for width in (5, 2)]

    def oracle(weight, state, params):
        x, ends = weight[torch.tensor(kwargs["ids"])], []
        for layer, mask in enumerate(masks):
            start = {k: v[layer : layer + 1] for k, v in state.items()} if cell == "lstm" else None
            start = start or state[layer : layer + 1]
            x, end = torch_layers(cell, x * torch.tensor(mask), start, [params[layer]])
            ends.append(end)
        if cell == "lstm":
            return x, {key: torch.cat([end[key] for end in ends]) for key in ("h", "c")}
        return x, torch.cat(ends)

    kwargs |= {"dropout": 0.4, "rng": lambda: np.random.default_rng(3)}
    check_op(embedding_recurrent, args, kwargs, oracle=oracle)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_element_agrees_with_differences(cell):
    check_op(embedding_recurrent, *case(cell, FEW[0], 4), scope="full")


@wrong_backwards("embedding_recurrent")
def test_kills(wrong):
    assert_killed(wrong)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_backends_agree_whichever_way_is_taken(cell):
    for shape in FEW + MANY:
        args, kwargs = case(cell, shape, 5)
        results = []
        for backend in BACKENDS:
            with minillm.backend(backend):
                out, cache = embedding_recurrent(*args, **kwargs)
                results.append((out, embedding_recurrent.backward(out, cache)))
        assert_close(results[1], results[0], ORACLE_TOL, f"{shape}")


def test_wrong_arguments_are_named():
    args, kwargs = case("gru", FEW[0], 0)
    for backend in BACKENDS:
        with minillm.backend(backend):
            refuses("cell must be one of rnn, lstm, gru, got 'elman'", args, kwargs, cell="elman")
            refuses(r"ids must have shape \(B, T\), got \(4,\)", args, kwargs, ids=np.ones(4, int))
            refuses("ids must be an array of integers", args, kwargs, ids=np.ones((4, 6)))
            refuses(r"weight must have shape \(any, any\)", (args[0][0], *args[1:]), kwargs)
            refuses(r"params\[0\]\['weight_x'\]", (args[0][:, 1:], *args[1:]), kwargs)
    assert LAYERS.keys() == {"rnn", "lstm", "gru"}


def refuses(message, args, kwargs, **changes):
    with pytest.raises(ValueError, match=message):
        embedding_recurrent(*args, **(kwargs | changes))

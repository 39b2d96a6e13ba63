import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.models import neural_ngram as model
from minillm.models.language_model import LanguageModel
from minillm.models.neural_ngram import (
    NeuralNgramConfig,
    contexts,
    neural_ngram,
    neural_ngram_features,
    neural_ngram_loss,
)
from minillm.ops import dropout
from minillm.ops._state import Registry
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, Trainer
from minillm.tree import flatten, map_leaves
from tests.ops.harness import (
    BACKENDS,
    ORACLE_TOL,
    assert_close,
    assert_refused,
    check_op,
    rng_of,
    wrong_backwards,
)

SEEDS = st.integers(0, 2**32 - 1)


def config_of(order=3, **changes):
    return NeuralNgramConfig(
        **({"vocab_size": 7, "order": order, "n_embd": 3, "n_hidden": 5} | changes)
    )


def case(config, seed, batch=2, time=4):
    """(params off their initial values, ids with repeats, targets of which one does not count)."""
    rng = rng_of("neural-ngram", config.order, seed)
    params = model.init(config, rng, np.float64)
    params = map_leaves(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)
    ids, targets = rng.integers(config.vocab_size, size=(2, batch, time))
    ids[-1, -1], targets[0, 0] = ids[0, 0], -100
    return params, {"ids": ids, "targets": targets, "config": config}


def torch_features(params, ids, config, masks=None):
    """Eq. 1's x and tanh, one position and one word of its context at a time."""
    table, hidden = params["embedding"]["weight"], params["hidden"]
    rows = []
    for b, t in np.ndindex(ids.shape):
        places = range(t - config.reach + 1, t + 1)
        words = [int(ids[b, k]) if k >= 0 else config.vocab_size for k in places]
        x = torch.cat([table[w] for w in words])
        a = torch.tanh(x @ hidden["weight"] + hidden["bias"])
        if masks is not None:
            x = x * torch.tensor(masks[0][b, t])
            a = torch.tanh(x @ hidden["weight"] + hidden["bias"]) * torch.tensor(masks[1][b, t])
        rows.append(torch.cat([a, x]) if config.direct else a)
    return torch.stack(rows).reshape(*ids.shape, -1)


def torch_logits(params, ids, config, **kwargs):
    features = torch_features(params, ids, config, **kwargs)
    return features @ params["head"]["weight"].T + params["head"]["bias"]


def torch_loss(params, ids, targets, config, **kwargs):
    logits = torch_logits(params, ids, config, **kwargs)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=-100
    )


@settings(max_examples=4)
@given(order=st.integers(2, 5), direct=st.booleans(), seed=SEEDS)
def test_logits_agree_with_torch_and_differences(order, direct, seed):
    params, kwargs = case(config_of(order, direct=direct), seed)
    del kwargs["targets"]
    check_op(neural_ngram, (params,), kwargs, oracle=lambda p: torch_logits(p, **kwargs), seed=seed)


@settings(max_examples=4)
@given(order=st.integers(2, 5), direct=st.booleans(), seed=SEEDS)
def test_loss_agrees_with_torch_and_differences(order, direct, seed):
    params, kwargs = case(config_of(order, direct=direct), seed)
    oracle = {"oracle": lambda p: torch_loss(p, **kwargs), "seed": seed}
    check_op(neural_ngram_loss, (params,), kwargs, **oracle)


def test_every_element_agrees_with_differences():
    params, kwargs = case(config_of(direct=True), 2)
    check_op(neural_ngram_loss, (params,), kwargs, scope="full")


def test_dropout_lies_on_the_embeddings_and_on_the_hidden_units():
    config = config_of(direct=True, dropout=0.4)
    params, kwargs = case(config, 5)
    rng = np.random.default_rng(9)
    masks = [dropout(np.ones((2, 4, n)), p=0.4, rng=rng)[0] for n in (2 * 3, 5)]

    def oracle(p):
        return torch_loss(p, **kwargs, masks=masks)

    more = {"rng": lambda: np.random.default_rng(9)}
    check_op(neural_ngram_loss, (params,), kwargs | more, oracle=oracle)


def right(dout, cache):
    return Registry.ops["neural_ngram_features"]["numpy"][1](dout, cache)


def direct_connections_forgotten(dout, cache):
    dout = dout.copy()
    dout[..., cache[0].n_hidden :] = 0
    return right(dout, cache)


def only_direct_connections(dout, cache):
    dout = dout.copy()
    dout[..., : cache[0].n_hidden] = 0
    return right(dout, cache)


def newest_word_of_the_context_only(dout, cache):
    """Each token of the context has its part in x; here only the newest one learns."""
    config, shape, (cache_embedding, _, cache_hidden, cache_tanh, _) = cache
    table, ids = cache_embedding.saved
    dz = dout[..., : config.n_hidden] * (1 - cache_tanh.saved**2)
    dx = dz @ cache_hidden.saved[1].T + dout[..., config.n_hidden :]
    dtable = np.zeros_like(table)
    np.add.at(dtable, ids[..., -1], dx.reshape(shape)[..., -1, :])
    return right(dout, cache) | {"embedding": {"weight": dtable}}


def padding_is_not_learnt(dout, cache):
    grads = right(dout, cache)
    grads["embedding"]["weight"][-1] = 0
    return grads


def context_in_reverse(dout, cache):
    """dH as if the newest token stood first."""
    config, _, _ = cache
    grads = right(dout, cache)
    weight = grads["hidden"]["weight"].reshape(config.reach, config.n_embd, -1)
    grads["hidden"]["weight"] = weight[::-1].reshape(-1, config.n_hidden)
    return grads


@wrong_backwards(
    [
        direct_connections_forgotten,
        only_direct_connections,
        newest_word_of_the_context_only,
        padding_is_not_learnt,
        context_in_reverse,
    ]
)
def test_kills(wrong):
    params, kwargs = case(config_of(direct=True), 1)
    del kwargs["targets"], params["head"]
    assert_refused(neural_ngram_features, wrong, (params,), kwargs)


def test_the_context_of_each_position():
    ids = np.array([[4, 5, 6], [1, 2, 3]])
    assert contexts(ids, config_of(4)).tolist() == [
        [[7, 7, 4], [7, 4, 5], [4, 5, 6]],
        [[7, 7, 1], [7, 1, 2], [1, 2, 3]],
    ]
    assert contexts(ids, config_of(2)).tolist() == ids[..., None].tolist()
    assert contexts(np.array([[4]]), config_of(6)).tolist() == [[[7, 7, 7, 7, 4]]]
    assert contexts(ids.astype(np.int32), config_of(4)).dtype == np.int32


@pytest.mark.parametrize("order", [2, 4])
def test_a_prediction_sees_its_context_and_nothing_else(order):
    """Changing one id changes the next n - 1 predictions, and only these."""
    config = config_of(order)
    params, kwargs = case(config, 3, batch=1, time=9)
    ids = kwargs["ids"]
    changed = ids.copy()
    changed[0, 3] = (changed[0, 3] + 1) % 7
    before, after = (neural_ngram(params, ids=i, config=config)[0] for i in (ids, changed))
    moved = np.any(before != after, axis=-1)[0]
    assert np.flatnonzero(moved).tolist() == list(range(3, 3 + order - 1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [2, 5])
def test_generation_step_by_step_is_the_forward(order, backend):
    config = config_of(order, direct=True)
    params, kwargs = case(config, 3, batch=3, time=7)
    ids = kwargs["ids"]
    with minillm.backend(backend):
        logits, _ = neural_ngram(params, ids=ids, config=config)
        for first in (1, 2, 6):
            past = model.start(params, config, 3)
            got = [model.step(params, past, ids=ids[:, :first], config=config)]
            for t in range(first, 7):
                got.append(model.step(params, past, ids=ids[:, t : t + 1], config=config))
            assert_close(np.stack(got, 1), logits[:, first - 1 :], ORACLE_TOL, "logits")


def test_a_reordered_past_is_the_past_of_the_reordered_texts():
    config = config_of(4)
    params, kwargs = case(config, 4, batch=3, time=5)
    ids, index = kwargs["ids"], np.array([2, 0, 2, 1])
    past, expected = model.start(params, config, 3), model.start(params, config, 4)
    model.step(params, past, ids=ids, config=config)
    model.step(params, expected, ids=ids[index], config=config)
    kept = past["ids"].copy()
    moved = model.reorder(past, index)
    assert moved["ids"].tolist() == expected["ids"].tolist()
    model.step(params, moved, ids=ids[index, :1], config=config)
    assert past["ids"].tolist() == kept.tolist()


def test_init_is_as_documented():
    config = NeuralNgramConfig(100, order=4, n_embd=30, n_hidden=25, direct=True)
    params = model.init(config, np.random.default_rng(0))
    shapes = {name: leaf.shape for name, leaf in flatten(params).items()}
    assert shapes == {
        "embedding.weight": (101, 30),
        "hidden.weight": (90, 25),
        "hidden.bias": (25,),
        "head.weight": (100, 25 + 90),
        "head.bias": (100,),
    }
    for name, leaf in flatten(params).items():
        assert leaf.dtype == np.float32
        bound = {"hidden": 90**-0.5, "head": 115**-0.5}.get(name.split(".")[0])
        assert bound is None or 0.9 * bound < np.abs(leaf).max() <= bound, name
    assert abs(params["embedding"]["weight"].std() - 1) < 0.05
    same = model.init(config, np.random.default_rng(0), np.float64)
    assert_close(map_leaves(np.float32, same), params, 0, "float64")
    without = model.init(config_of(), np.random.default_rng(0))
    assert without["head"]["weight"].shape == (7, 5)


def test_it_learns_what_its_context_decides(tmp_path):
    """The token three back comes again: an order of 4 sees it, one of 3 cannot."""
    tokenizer = CharTokenizer("abcdef")
    rng = np.random.default_rng(1)
    motif = rng.integers(6, size=(400, 3))
    text = np.concatenate([np.tile(m, 3) for m in motif]).astype(np.int32)
    losses = {}
    for order in (3, 4):
        shape = {"order": order, "n_embd": 8, "n_hidden": 64}
        lm = LanguageModel.create("neural-ngram", tokenizer, seed=0, **shape)
        settings = TrainConfig(steps=150, block=24, lr=0.02, eval_every=0, threads=1)
        Trainer(lm, (text, None), settings, tmp_path / str(order), progress=False).run()
        losses[order] = lm.score(text)[0].mean()
    assert losses[4] < losses[3] - 0.3, losses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 1}, "order must be a whole number of at least 2, got 1"),
        ({"order": 3.0}, r"order must be a whole number of at least 2, got 3\.0"),
        ({"n_hidden": 0}, "n_hidden must be a whole number of at least 1, got 0"),
        ({"vocab_size": True}, "vocab_size must be a whole number of at least 1, got True"),
        ({"direct": 1}, "direct must be True or False, got 1"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1\.0"),
    ],
)
def test_wrong_configurations_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        NeuralNgramConfig(**({"vocab_size": 7} | changes))


def test_wrong_ids_are_named():
    params, kwargs = case(config_of(), 0)
    with pytest.raises(ValueError, match=r"ids must have shape \(B, T\), got \(4,\)"):
        neural_ngram(params, ids=kwargs["ids"][0], config=config_of())
    with pytest.raises(ValueError, match="ids must be an array of integers, got dtype float64"):
        neural_ngram(params, ids=kwargs["ids"].astype(float), config=config_of())

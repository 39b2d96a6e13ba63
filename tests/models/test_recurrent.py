import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.models import recurrent as model
from minillm.models._checks import check_ids
from minillm.models.recurrent import RecurrentConfig, recurrent, recurrent_hidden, recurrent_loss
from minillm.ops import dropout, linear_cross_entropy
from minillm.ops._state import Registry
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
from tests.ops.recurrent_cases import torch_layers

CELLS = st.sampled_from(["rnn", "lstm", "gru"])
SEEDS = st.integers(0, 2**32 - 1)


def config_of(cell, tied, **changes):
    shape = {"vocab_size": 7, "n_embd": 4 if tied else 3, "n_hidden": 4, "n_layer": 2}
    return RecurrentConfig(**(shape | {"cell": cell, "tied": tied} | changes))


def case(config, seed, batch=2, time=3, with_state=True):
    """(params off their initial values, ids with repeats, targets of which one does not count)."""
    rng = rng_of("recurrent", config.cell, seed)
    params = model.init(config, rng, np.float64)
    params = map_leaves(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)
    ids = rng.integers(config.vocab_size, size=(batch, time))
    targets = rng.integers(config.vocab_size, size=(batch, time))
    ids[-1, -1], targets[0, 0] = ids[0, 0], -100
    state = model.start(params, config, batch)["state"] if with_state else None
    state = map_leaves(lambda leaf: rng.standard_normal(leaf.shape), state)
    return params, {"ids": ids, "targets": targets, "config": config, "state": state}


def torch_logits(params, ids, config, state):
    x = params["embedding"]["weight"][torch.tensor(ids)]
    state = map_leaves(torch.tensor, state)
    hidden, end = torch_layers(config.cell, x, state, params["layers"])
    head = params["embedding" if config.tied else "head"]["weight"]
    return hidden @ head.T + params["head"]["bias"], end


def with_state_in_dtype(op):
    """The op, its state (no argument that is differentiated) in the dtype of the params."""

    def call(params, *, state, **kwargs):
        dtype = params["embedding"]["weight"].dtype
        return op(params, state=map_leaves(lambda leaf: leaf.astype(dtype), state), **kwargs)

    call.__name__, call.backward = op.__name__, op.backward
    return call


@settings(max_examples=6)
@given(cell=CELLS, tied=st.booleans(), with_state=st.booleans(), seed=SEEDS)
def test_logits_agree_with_torch_and_differences(cell, tied, with_state, seed):
    params, kwargs = case(config_of(cell, tied), seed, with_state=with_state)
    del kwargs["targets"]

    def oracle(p):
        return torch_logits(p, **kwargs)

    check_op(with_state_in_dtype(recurrent), (params,), kwargs, oracle=oracle, seed=seed)


@settings(max_examples=6)
@given(cell=CELLS, tied=st.booleans(), with_state=st.booleans(), seed=SEEDS)
def test_loss_agrees_with_torch_and_differences(cell, tied, with_state, seed):
    params, kwargs = case(config_of(cell, tied), seed, with_state=with_state)

    def oracle(p):
        logits, end = torch_logits(p, kwargs["ids"], kwargs["config"], kwargs["state"])
        targets = torch.tensor(kwargs["targets"])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), end

    check_op(with_state_in_dtype(recurrent_loss), (params,), kwargs, oracle=oracle, seed=seed)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_element_agrees_with_differences(cell):
    params, kwargs = case(config_of(cell, True), 2)
    check_op(with_state_in_dtype(recurrent_loss), (params,), kwargs, scope="full")


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("op", [recurrent_hidden, recurrent, recurrent_loss])
def test_dropout_lies_before_between_and_after_the_layers(op, cell):
    config = config_of(cell, False, dropout=0.4)
    params, kwargs = case(config, 5, with_state=False)
    if op is not recurrent_loss:
        del kwargs["targets"]
    rng = np.random.default_rng(9)
    first, between, last = (
        dropout(np.ones((2, 3, width)), p=0.4, rng=rng)[0] for width in (3, 4, 4)
    )

    def oracle(p):
        x = p["embedding"]["weight"][torch.tensor(kwargs["ids"])] * torch.tensor(first)
        x, end_1 = torch_layers(cell, x, None, p["layers"][:1])
        x, end_2 = torch_layers(cell, x * torch.tensor(between), None, p["layers"][1:])
        x, end = x * torch.tensor(last), map_leaves(lambda *e: torch.cat(e), end_1, end_2)
        if op is recurrent_hidden:
            return x, end
        logits = x @ p["head"]["weight"].T + p["head"]["bias"]
        if op is recurrent:
            return logits, end
        targets = torch.tensor(kwargs["targets"]).flatten()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets), end

    if op is recurrent_hidden:  # its gradient has no head; the whole models' have
        params = {key: params[key] for key in ("embedding", "layers")}
    kwargs["rng"] = lambda: np.random.default_rng(9)
    check_op(with_state_in_dtype(op), (params,), kwargs, oracle=oracle)


def right(dout, cache):
    return Registry.ops["recurrent_loss"]["numpy"][1](dout, cache)


def head_of_the_tied_array_only(dout, cache):
    grads = right(dout, cache)
    grads["embedding"]["weight"] = head_gradient(dout, cache)
    return grads


def embedding_of_the_tied_array_only(dout, cache):
    grads = right(dout, cache)
    grads["embedding"]["weight"] = grads["embedding"]["weight"] - head_gradient(dout, cache)
    return grads


def head_gradient(dout, cache):
    return linear_cross_entropy.backward(dout[0], cache[2])[1]


def state_gradient_dropped(dout, cache):
    return right((dout[0], None), cache)


def layers_in_reverse(dout, cache):
    grads = right(dout, cache)
    return grads | {"layers": grads["layers"][::-1]}


@wrong_backwards(
    [
        head_of_the_tied_array_only,
        embedding_of_the_tied_array_only,
        state_gradient_dropped,
        layers_in_reverse,
    ]
)
def test_kills(wrong):
    params, kwargs = case(config_of("lstm", True), 1)
    assert_refused(recurrent_loss, wrong, (params,), kwargs)


def test_a_tied_array_is_one_leaf():
    tied, untied = (model.init(config_of("gru", tied), rng_of(1)) for tied in (True, False))
    assert flatten(untied).keys() - flatten(tied).keys() == {"head.weight"}
    assert flatten(tied)["embedding.weight"].shape == (7, 4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_state_passed_on_continues_the_sequence(cell, backend):
    params, kwargs = case(config_of(cell, False), 2, time=7)
    with minillm.backend(backend):
        targets = kwargs.pop("targets")
        (logits, end), _ = recurrent(params, **kwargs)
        (loss, _), cache = recurrent_loss(params, targets=targets, **kwargs)
        grads = recurrent_loss.backward((1.0, None), cache)
        parts, total, grads_cut = [], 0.0, None
        for cut in (slice(0, 3), slice(3, 4), slice(4, 7)):
            piece = kwargs | {"ids": kwargs["ids"][:, cut]}
            (part, kwargs["state"]), _ = recurrent(params, **piece)
            parts.append(part)
            (nats, _), cache = recurrent_loss(params, targets=targets[:, cut], **piece)
            share = (targets[:, cut] != -100).sum() / (targets != -100).sum()
            total += share * nats
            grads_cut = recurrent_loss.backward((share, None), cache)
    assert_close((np.concatenate(parts, 1), kwargs["state"]), (logits, end), ORACLE_TOL, "pieces")
    assert_close(total, loss, ORACLE_TOL, "loss")
    # truncation: what the last piece alone gives is not the gradient of the whole
    assert not np.allclose(grads_cut["layers"][0]["bias"], grads["layers"][0]["bias"])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_generation_step_by_step_is_the_forward(cell, backend):
    config = config_of(cell, True)
    params, kwargs = case(config, 3, batch=3, time=6)
    ids = kwargs["ids"]
    with minillm.backend(backend):
        (logits, _), _ = recurrent(params, ids=ids, config=config)
        for first in (1, 4):
            past = model.start(params, config, 3)
            got = [model.step(params, past, ids=ids[:, :first], config=config)]
            for t in range(first, 6):
                got.append(model.step(params, past, ids=ids[:, t : t + 1], config=config))
            assert_close(np.stack(got, 1), logits[:, first - 1 :], ORACLE_TOL, "logits")


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_reordered_past_is_the_past_of_the_reordered_texts(cell):
    config = config_of(cell, False)
    params, kwargs = case(config, 4, batch=3, time=5)
    ids, index = kwargs["ids"], np.array([2, 0, 2, 1])
    past, expected = model.start(params, config, 3), model.start(params, config, 4)
    model.step(params, past, ids=ids, config=config)
    model.step(params, expected, ids=ids[index], config=config)
    kept = map_leaves(np.copy, past)
    moved = model.reorder(past, index)
    assert_close(moved, expected, ORACLE_TOL, "past")
    model.step(params, moved, ids=ids[index, :1], config=config)
    assert_close(past, kept, 0, "the old past")


def test_dropout_depends_on_its_generator_alone():
    config = config_of("lstm", False, dropout=0.5)
    params, kwargs = case(config, 5, with_state=False)

    def run(backend, seed):
        with minillm.backend(backend):
            rng = None if seed is None else np.random.default_rng(seed)
            return recurrent_loss(params, **kwargs, rng=rng)[0]

    for backend in BACKENDS:
        assert_close(run(backend, 1), run(backend, 1), 0, "same seed")
    assert_close(run("fast", 1), run("numpy", 1), ORACLE_TOL, "same seed on another backend")
    losses = {float(run("fast", seed)[0]) for seed in (1, 2, None)}
    assert len(losses) == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_absent_gradients_are_zeros(backend):
    params, kwargs = case(config_of("lstm", True), 6)
    with minillm.backend(backend):
        (loss, end), cache = recurrent_loss(params, **kwargs)
        got = recurrent_loss.backward((None, end), cache)
        assert_close(got, recurrent_loss.backward((0.0, end), cache), 0, "no dloss")
        del kwargs["targets"]
        (logits, _), cache = recurrent(params, **kwargs)
        got = recurrent.backward((None, end), cache)
        assert_close(got, recurrent.backward((0 * logits, end), cache), 0, "no dlogits")
    assert loss.shape == ()


def test_init_is_as_documented():
    config = RecurrentConfig(100, cell="lstm", n_embd=30, n_hidden=25, n_layer=2)
    params = model.init(config, np.random.default_rng(0))
    for name, leaf in flatten(params).items():
        assert leaf.dtype == np.float32
        if name != "embedding.weight" and "layers" not in name:
            assert 0.9 / 5 < np.abs(leaf).max() <= 1 / 5, name
    for layer in params["layers"]:
        assert np.all(layer["bias"][25:50] == 1)
        for part in (layer["weight_x"], layer["weight_h"], np.delete(layer["bias"], range(25, 50))):
            assert 0.9 / 5 < np.abs(part).max() <= 1 / 5
    assert abs(params["embedding"]["weight"].std() - 1) < 0.05
    assert params["layers"][0]["weight_x"].shape == (30, 100)
    same = model.init(config, np.random.default_rng(0), np.float64)
    assert_close(map_leaves(np.float32, same), params, 0, "float64")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tied": True}, "tied needs n_embd == n_hidden, got n_embd 3, n_hidden 4"),
        ({"cell": "elman"}, "cell must be one of rnn, lstm, gru, got 'elman'"),
        ({"n_layer": 0}, "n_layer must be a whole number of at least 1, got 0"),
        ({"vocab_size": True}, "vocab_size must be a whole number of at least 1, got True"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1\.0"),
    ],
)
def test_wrong_configurations_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        RecurrentConfig(**({"vocab_size": 7, "n_embd": 3, "n_hidden": 4} | changes))


def test_wrong_ids_and_states_are_named():
    config = config_of("lstm", False)
    params, kwargs = case(config, 0)
    with pytest.raises(ValueError, match=r"ids must have shape \(B, T\), got \(2,\)"):
        recurrent(params, ids=kwargs["ids"][:, 0], config=config)
    with pytest.raises(ValueError, match="state must be a dict with the keys h, c"):
        recurrent(params, ids=kwargs["ids"], config=config, state=kwargs["state"]["h"])


def test_ids_are_checked_on_the_host():
    assert check_ids([[0, 6], [3, 2]], 7).shape == (2, 2)
    assert check_ids([], 7).size == 0
    with pytest.raises(ValueError, match=r"in \[0, 7\), the vocabulary's; the largest is 9"):
        check_ids(np.array([[1, 9], [7, 0]]), 7)
    with pytest.raises(ValueError, match=r"in \[0, 7\), the vocabulary's; the smallest is -3"):
        check_ids(np.array([1, -3, 7], np.int32), 7)
    with pytest.raises(ValueError, match="ids must be integers, got float64"):
        check_ids(np.array([1.0]), 7)

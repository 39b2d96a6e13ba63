import numpy as np
import pytest

from minillm.models.language_model import LanguageModel
from minillm.training.parallel import WorkerPool
from minillm.training.step import (
    IGNORED,
    join_states,
    loss_and_gradients,
    mean_loss,
    split_state,
)
from minillm.tree import flatten, map_leaves
from tests.training.runs import SHAPES, TOKENIZER

TOL = 1e-13  # float64 sums in another order


def model(kind, dropout=0.0):
    shape = SHAPES[kind] | {"dropout": dropout}
    return LanguageModel.create(kind, TOKENIZER, seed=1, dtype=np.float64, **shape)


def batch(seed, rows=5, ignored=True):
    """A batch whose first rows count for less: some targets are masked out."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 12, (rows, 8)).astype(np.int32)
    targets = rng.integers(0, 12, (rows, 8)).astype(np.int32)
    if ignored:
        targets[0, 2:] = IGNORED
        targets[1] = IGNORED
    return ids, targets


def whole(lm, ids, targets, rng=None, **state):
    """The loss, state and gradients of one batch by the op itself, on this thread."""
    out, cache = lm.module.loss(
        lm.params, ids=ids, targets=targets, config=lm.config, rng=rng, **state
    )
    loss, state = out if lm.module.STATEFUL else (out, None)
    dloss = (np.float64(1), None) if lm.module.STATEFUL else np.float64(1)
    return float(loss), state, lm.module.loss.backward(dloss, cache)


def run(lm, batches, threads, **more):
    with WorkerPool(threads) as pool:
        return loss_and_gradients(
            lm.module, lm.params, lm.config, batches, pool=pool, **({"seed": 0, "first": 0} | more)
        )


def assert_equal(grads, expected):
    for name, g in flatten(expected).items():
        np.testing.assert_allclose(flatten(grads)[name], g, rtol=0, atol=TOL, err_msg=name)


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_shards_add_up_to_the_whole_batch(kind, threads):
    lm = model(kind)
    ids, targets = batch(0)
    kept = map_leaves(np.copy, lm.params)
    result = run(lm, [(ids, targets, True)], threads)
    loss, _, grads = whole(lm, ids, targets)
    assert result.loss == pytest.approx(loss, abs=TOL)
    assert result.tokens == 3 * 8 + 2
    assert_equal(result.grads, grads)
    assert_equal(lm.params, kept)  # nothing was written to
    with WorkerPool(threads) as pool:
        evaluated = mean_loss(lm.module, lm.params, lm.config, [(ids, targets, True)], pool=pool)
    assert evaluated == pytest.approx(loss, abs=TOL)


def test_plain_means_over_shards_would_be_wrong():
    lm = model("gpt")
    ids, targets = batch(0)
    _, _, grads = whole(lm, ids, targets)
    halves = [whole(lm, i, t)[2] for i, t in ((ids[:3], targets[:3]), (ids[3:], targets[3:]))]
    mean = map_leaves(lambda a, b: (a + b) / 2, *halves)
    assert np.abs(mean["wte"] - grads["wte"]).max() > 1e3 * TOL


@pytest.mark.parametrize("threads", [1, 2])
def test_accumulation_is_one_big_batch(threads):
    lm = model("gpt")
    parts = [batch(seed, rows) for seed, rows in ((0, 5), (1, 3), (2, 4))]
    result = run(lm, [(*part, True) for part in parts], threads)
    loss, _, grads = whole(lm, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    assert result.loss == pytest.approx(loss, abs=TOL)
    assert_equal(result.grads, grads)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_state_is_carried_on_and_reset(kind, threads):
    lm = model(kind)
    parts = [batch(seed, ignored=False) for seed in range(3)]
    batches = [(*parts[0], True), (*parts[1], False), (*parts[2], True)]
    result = run(lm, batches, threads)
    loss0, state, grads0 = whole(lm, *parts[0])
    loss1, _, grads1 = whole(lm, *parts[1], state=state)
    loss2, state, grads2 = whole(lm, *parts[2])
    assert result.loss == pytest.approx((loss0 + loss1 + loss2) / 3, abs=TOL)
    assert_equal(result.grads, map_leaves(lambda *g: sum(g) / 3, grads0, grads1, grads2))
    assert_equal(join_states(result.states), state)

    after = run(lm, [(*parts[0], False)], threads, states=result.states)
    assert after.loss == pytest.approx(whole(lm, *parts[0], state=state)[0], abs=TOL)
    with WorkerPool(threads) as pool:
        batches = [(*part, n == 0) for n, part in enumerate(parts[:2])]
        evaluated = mean_loss(lm.module, lm.params, lm.config, batches, pool=pool)
    assert evaluated == pytest.approx((loss0 + loss1) / 2, abs=TOL)


def test_every_shard_of_every_micro_step_has_dropout_of_its_own():
    lm = model("gpt", dropout=0.5)
    ids, targets = batch(0, rows=4, ignored=False)
    result = run(lm, [(ids, targets, True)] * 2, 2, seed=7, first=10)
    expected, losses = [], []
    for number in (10, 11):
        for index in (0, 1):
            rng = np.random.default_rng(np.random.SeedSequence([7, number, 1 + index]))
            half = slice(2 * index, 2 * index + 2)
            loss, _, grads = whole(lm, ids[half], targets[half], rng=rng)
            losses.append(loss)
            expected.append(grads)
    assert result.loss == pytest.approx(np.mean(losses), abs=TOL)
    assert_equal(result.grads, map_leaves(lambda *g: sum(g) / 4, *expected))
    assert len(set(losses)) == 4


def test_the_same_bits_every_time():
    lm = model("gpt", dropout=0.1)
    first = run(lm, [(*batch(0), True)], 2)
    again = run(lm, [(*batch(0), True)], 2)
    assert first.loss == again.loss
    for name, g in flatten(first.grads).items():
        assert np.array_equal(g, flatten(again.grads)[name]), name


def test_nothing_that_counts_gives_zero():
    lm = model("gpt")
    ids, targets = batch(0)
    result = run(lm, [(ids, np.full_like(targets, IGNORED), True)], 2)
    assert result.loss == 0
    assert all(np.all(g == 0) for g in flatten(result.grads).values())


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_states_split_as_batches_do(threads):
    state = {"h": np.arange(40.0).reshape(2, 5, 4), "c": -np.arange(40.0).reshape(2, 5, 4)}
    parts = split_state(state, threads)
    assert [p["h"].shape[1] for p in parts] == [
        len(p) for p in np.array_split(np.arange(5), min(threads, 5))
    ]
    joined = join_states(parts)
    assert np.array_equal(joined["h"], state["h"])
    assert np.array_equal(joined["c"], state["c"])
    assert split_state(None, threads) is None
    assert join_states(None) is None
    assert join_states([None, None]) is None

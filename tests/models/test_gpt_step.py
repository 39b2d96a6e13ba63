import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.generation import generate
from minillm.models import gpt as model
from minillm.models.gpt import GPTConfig
from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer
from minillm.tree import leaves, map_leaves
from tests.models.gpt_cases import CONFIGS, LLAMA, SEEDS, TINY, random_ids, random_params
from tests.ops.harness import assert_close

BOTH = pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(TINY, block_size=9),
        dataclasses.replace(TINY, block_size=9, **LLAMA),
    ],
    ids=["gpt2", "llama"],
)
# the same sums in another order: a few hundred of them, one after the other
TOL = {np.float64: 2000 * np.finfo(np.float64).eps, np.float32: 2000 * np.finfo(np.float32).eps}


def read(params, config, ids, cuts):
    """Yield (t, logits) after each piece of ids (B, T), cut at `cuts`."""
    past = model.start(params, config, len(ids))
    edges = [0, *sorted(cuts), ids.shape[1]]
    for begin, end in itertools.pairwise(edges):
        if begin < end:
            yield end - 1, model.step(params, past, ids=ids[:, begin:end], config=config)
            assert past["length"] == end


@given(
    config=CONFIGS,
    heads=st.sampled_from([2, 4]),
    block=st.integers(1, 7),
    batch=st.sampled_from([1, 1, 3]),
    cuts=st.sets(st.integers(1, 6)),
    dtype=st.sampled_from([np.float64, np.float64, np.float32]),
    seed=SEEDS,
)
def test_every_step_gives_the_logits_of_the_op(config, heads, block, batch, cuts, dtype, seed):
    config = dataclasses.replace(config, n_head=heads, n_embd=8, block_size=block)
    params = map_leaves(lambda leaf: leaf.astype(dtype), random_params(config, seed))
    ids = random_ids(config, seed, batch, block)
    expected, _ = model.forward(params, ids=ids, config=config)  # (B, T, V)
    singly, pieces = range(1, block), {cut for cut in cuts if cut < block}
    for edges in (singly, pieces, ()):  # token by token, in some pieces, at once
        for t, logits in read(params, config, ids, edges):
            assert logits.dtype == dtype
            assert_close(logits, expected[:, t], TOL[dtype], f"logits after {t}")


@BOTH
@pytest.mark.parametrize("batch", [1, 2])
def test_nothing_but_the_past_is_written_to(config, batch):
    params, ids = random_params(config, 3), random_ids(config, 3, batch, 4)
    past, kept = model.start(params, config, batch), map_leaves(np.copy, (params, ids))
    heads = past["heads"]
    first = model.step(params, past, ids=ids[:, :3], config=config)
    first_kept = first.copy()
    model.step(params, past, ids=ids[:, 3:], config=config)
    assert_close((params, ids), kept, 0, "an input was written to,")
    assert np.array_equal(first, first_kept)
    assert past["heads"] is heads
    assert np.all(heads[..., :4, :] != 0)
    assert not np.any(heads[..., 4:, :])


@BOTH
@pytest.mark.parametrize("index", [[1, 1, 0], [1]])
def test_beams_go_on_from_the_texts_that_they_follow(config, index):
    params, ids = random_params(config, 4), random_ids(config, 4, 2, 5)
    past = model.start(params, config, 2)
    model.step(params, past, ids=ids[:, :4], config=config)
    beams, after = model.reorder(past, np.array(index)), np.array([[0], [3], [2]])[: len(index)]
    logits = model.step(params, beams, ids=after, config=config)
    texts = np.concatenate([ids[index, :4], after], axis=1)
    expected, _ = model.forward(params, ids=texts, config=config)
    assert_close(logits, expected[:, -1], TOL[np.float64], "beams")

    # the past that they came from goes its own way
    logits = model.step(params, past, ids=ids[:, 4:], config=config)
    expected, _ = model.forward(params, ids=ids, config=config)
    assert_close(logits, expected[:, -1], TOL[np.float64], "the old past")


TOKENIZER = CharTokenizer("abcdefgh")


@pytest.mark.parametrize("choices", [{}, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_greedy_tokens_equal_those_without_the_store(choices, dtype):
    config = GPTConfig(TOKENIZER.vocab_size, 32, 2, 4, 16, **choices)
    chosen = set()
    for seed in range(4):
        params = map_leaves(lambda leaf: leaf.astype(dtype), random_params(config, seed))
        gpt, ids = LanguageModel("gpt", config, params, TOKENIZER), [seed, 2, 3]
        found = generate(gpt, ids, max_new_tokens=29, greedy=True)
        while len(ids) < 32:
            logits, _ = model.forward(params, ids=np.array([ids]), config=config)
            ids.append(int(logits[0, -1].argmax()))
        assert found.tolist() == ids[3:]
        chosen |= set(ids[3:])
    assert len(chosen) > 3


@pytest.mark.parametrize("rows", [1, 4])
def test_large_scores_stay_finite(rows):
    """exp overflows unless the largest score is taken away first; a warning is an error here."""
    config = dataclasses.replace(TINY, block_size=9)
    params = random_params(config, 6)
    for block in params["blocks"]:
        block["attention"]["qkv"]["weight"][:, :8] *= 300
    ids = random_ids(config, 6, 1, 8)
    expected, _ = model.forward(params, ids=ids, config=config)
    cuts = range(rows, 8, rows)
    for t, logits in read(params, config, ids, cuts):
        # a score of 1e4 is rounded by 1e4 eps, and so is its exponential
        assert_close(logits, expected[:, t], 1e4 * TOL[np.float64], f"logits after {t}")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2), int), "3 ids read and 2 more do not fit block_size 4"),
        (np.zeros((1, 1), int), r"ids must be \(2, n\) with n >= 1, got shape \(1, 1\)"),
        (np.zeros((2, 0), int), r"ids must be \(2, n\) with n >= 1, got shape \(2, 0\)"),
        (np.zeros(2, int), r"ids must be \(2, n\) with n >= 1, got shape \(2,\)"),
    ],
)
def test_wrong_ids_are_named_and_leave_the_past_as_it_was(ids, message):
    params, past = random_params(TINY, 7), model.start(random_params(TINY, 7), TINY, 2)
    model.step(params, past, ids=np.array([[1, 2, 3], [3, 2, 1]]), config=TINY)
    heads = past["heads"].copy()
    with pytest.raises(ValueError, match=message):
        model.step(params, past, ids=ids, config=TINY)
    assert past["length"] == 3
    assert np.array_equal(past["heads"], heads)
    model.step(params, past, ids=np.array([[0], [4]]), config=TINY)


def test_the_past_has_the_dtype_asked_for():
    config = dataclasses.replace(TINY, **LLAMA)
    params = random_params(config, 8)
    for dtype in (None, np.float32):
        past = model.start(params, config, 2, dtype)
        for name, leaf in leaves({"heads": past["heads"], "turn": past["turn"]}):
            assert leaf.dtype == (dtype or np.float64), name
        assert past["heads"].shape == (2, 2, 2, 4, 2)  # (L, B, 2 G, T, D)
        assert past["mean"].dtype == np.float64  # of the rows, which are the parameters' own
        ids = random_ids(config, 8, 2, 4)
        logits = model.step(params, past, ids=ids, config=config)
        expected, _ = model.forward(params, ids=ids, config=config)
        assert_close(logits, expected[:, -1], TOL[dtype or np.float64], "logits")

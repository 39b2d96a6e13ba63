import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.models import skip_gram as model
from minillm.models.skip_gram import SkipGramConfig, skip_gram, skip_gram_loss
from minillm.ops import binary_cross_entropy
from minillm.ops._state import Registry
from minillm.tree import map_leaves
from tests.ops.harness import assert_close, assert_refused, check_op, rng_of, wrong_backwards

SEEDS = st.integers(0, 2**32 - 1)


def case(seed, pairs=5, negatives=3, V=7, C=4):
    """(params off their initial values, a batch in which words and negatives repeat)."""
    rng = rng_of("skip-gram", seed, pairs, negatives)
    params = model.init(SkipGramConfig(V, C), rng, np.float64)
    params = map_leaves(lambda leaf: leaf + rng.standard_normal(leaf.shape), params)
    words, contexts = rng.integers(V, size=(2, pairs))
    drawn = rng.integers(V, size=(pairs, negatives))
    words[-1] = words[0]
    if negatives:
        drawn[-1, 0] = contexts[0]
    return params, {"words": words, "contexts": contexts, "negatives": drawn}


def eq_4(params, words, contexts, negatives):
    """The paper's formula, a pair at a time; the mean with its sign turned."""
    word, context = params["word"]["weight"], params["context"]["weight"]
    total = 0.0
    for w, c, drawn in zip(words, contexts, negatives, strict=True):
        total = total + torch.log(torch.sigmoid(context[int(c)] @ word[int(w)]))
        for i in drawn:
            total = total + torch.log(torch.sigmoid(-context[int(i)] @ word[int(w)]))
    return -total / len(words)


@settings(max_examples=5)
@given(pairs=st.integers(1, 5), negatives=st.integers(0, 4), seed=SEEDS)
def test_loss_agrees_with_eq_4_and_differences(pairs, negatives, seed):
    params, batch = case(seed, pairs, negatives)
    check_op(skip_gram_loss, (params,), batch, oracle=lambda p: eq_4(p, **batch), seed=seed)


@settings(max_examples=3)
@given(S=st.integers(1, 4), seed=SEEDS)
def test_logits_agree_with_torch_and_differences(S, seed):
    params, batch = case(seed, negatives=S)
    given_ = {"words": batch["words"], "others": batch["negatives"]}

    def oracle(p):
        v = p["word"]["weight"][torch.tensor(given_["words"])]
        u = p["context"]["weight"][torch.tensor(given_["others"])]
        return torch.einsum("nc,nsc->ns", v, u)

    check_op(skip_gram, (params,), given_, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences_in_a_large_vocabulary():
    """More rows than the fast embedding's one-hot takes: most gradients are zeros."""
    params, batch = case(3, pairs=6, V=600, C=2)
    check_op(skip_gram_loss, (params,), batch, oracle=lambda p: eq_4(p, **batch))


def right(dloss, cache):
    return Registry.ops["skip_gram_loss"]["numpy"][1](dloss, cache)


def mean_over_the_answers(dloss, cache):
    return right(dloss / cache[0], cache)


def negatives_forgotten(dloss, cache):
    n_answers, cache_logits, cache_mean = cache
    dlogits = binary_cross_entropy.backward(dloss * n_answers, cache_mean)
    dlogits[:, 1:] = 0
    return skip_gram.backward(dlogits, cache_logits)


def repeated_words_once(dloss, cache):
    """`dword[words] = dv`, which keeps one of a repeated word's gradients."""
    n_answers, cache_logits, cache_mean = cache
    _, u, cache_v, _ = cache_logits.saved
    dlogits = binary_cross_entropy.backward(dloss * n_answers, cache_mean)
    grads = right(dloss, cache)
    dword = np.zeros_like(grads["word"]["weight"])
    dword[cache_v.saved[1]] = np.einsum("ns,nsc->nc", dlogits, u)
    return grads | {"word": {"weight": dword}}


def tables_exchanged(dloss, cache):
    grads = right(dloss, cache)
    return {"word": grads["context"], "context": grads["word"]}


def noise_pulled_nearer(dloss, cache):
    """The negatives' sign: 1 - p as if they too had stood there."""
    n_answers, cache_logits, cache_mean = cache
    dlogits = binary_cross_entropy.backward(dloss * n_answers, cache_mean)
    dlogits[:, 1:] *= -1
    return skip_gram.backward(dlogits, cache_logits)


@wrong_backwards(
    [
        mean_over_the_answers,
        negatives_forgotten,
        repeated_words_once,
        tables_exchanged,
        noise_pulled_nearer,
    ]
)
def test_kills(wrong):
    params, batch = case(1)
    assert_refused(skip_gram_loss, wrong, (params,), batch)


def test_init_is_as_documented():
    params = model.init(SkipGramConfig(50, 20), np.random.default_rng(0))
    word, context = params["word"]["weight"], params["context"]["weight"]
    assert word.dtype == context.dtype == np.float32
    assert word.shape == context.shape == (50, 20)
    assert 0.9 / 40 < np.abs(word).max() <= 1 / 40
    assert not context.any()
    same = model.init(SkipGramConfig(50, 20), np.random.default_rng(0), np.float64)
    assert_close(map_leaves(np.float32, same), params, 0, "float64")
    _, batch = case(0)
    assert skip_gram_loss(params, **batch)[0] == pytest.approx(4 * np.log(2))


def test_scores_too_large_for_exp_stay_finite():
    params, batch = case(2)
    params = map_leaves(lambda leaf: 100 * leaf, params)
    loss, cache = skip_gram_loss(params, **batch)
    assert np.isfinite(loss)
    for table in skip_gram_loss.backward(1.0, cache).values():
        assert np.all(np.isfinite(table["weight"]))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="n_embd must be a whole number of at least 1, got 0"):
        SkipGramConfig(7, 0)
    with pytest.raises(ValueError, match=r"vocab_size must be .* got 7\.0"):
        SkipGramConfig(7.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"negatives": np.zeros((4, 3), int)}, r"negatives must have shape \(5, K\), got \(4, 3\)"),
        ({"negatives": np.zeros((5, 3))}, "negatives must be an array of integers"),
        ({"contexts": np.zeros(4, int)}, r"contexts must .*\(5,\).*\(4,\)"),
        ({"words": np.zeros(5)}, "words must be an array of integers"),
        ({"words": np.zeros((5, 1), int)}, r"words must have shape \(N,\), got \(5, 1\)"),
    ],
)
def test_a_wrong_batch_is_named(change, message):
    params, batch = case(0)
    with pytest.raises(ValueError, match=message):
        skip_gram_loss(params, **(batch | change))


def test_others_of_another_number_are_named():
    params, _ = case(0)
    with pytest.raises(ValueError, match=r"others \(N, S\), got \(3,\) and \(2, 4\)"):
        skip_gram(params, words=np.zeros(3, int), others=np.zeros((2, 4), int))

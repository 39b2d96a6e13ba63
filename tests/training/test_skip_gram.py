import dataclasses

import numpy as np
import pytest

from minillm.data.words import number_words
from minillm.errors import UserError
from minillm.files import read_safetensors, save_safetensors
from minillm.models import skip_gram
from minillm.optim import Adagrad
from minillm.training.skip_gram import SkipGramSettings, train_skip_gram, update_touched_rows
from minillm.tree import map_leaves
from tests.ops.harness import assert_close

SMALL = {"n_embd": 6, "window": 2, "batch": 64, "subsample": 1.0, "epochs": 3, "lr": 0.3}


def two_topics(seed=0, sentences=300):
    """Sentences of animals and sentences of tools, which never meet."""
    rng = np.random.default_rng(seed)
    topics = [["cat", "dog", "cow", "hen"], ["saw", "axe", "file", "drill"]]
    return number_words([list(rng.choice(topics[i % 2], 6)) for i in range(sentences)])


def run(out=None, text=None, **changes):
    settings = SkipGramSettings(**(SMALL | changes))
    return train_skip_gram(text or two_topics(), settings, out=out, progress=False)


def batch(seed, n=40, V=9, K=3):
    rng = np.random.default_rng(seed)
    words, contexts = rng.integers(0, V - 2, (2, n))  # the last two rows are never touched
    return {"words": words, "contexts": contexts, "negatives": rng.integers(0, V - 2, (n, K))}


def test_an_update_of_the_touched_rows_is_one_of_all_rows():
    rng = np.random.default_rng(3)
    params = skip_gram.init(skip_gram.SkipGramConfig(9, 4), rng, np.float64)
    params = map_leaves(lambda leaf: leaf + rng.standard_normal(leaf.shape), params)
    whole, rule = map_leaves(np.copy, params), Adagrad(0.1)
    state, squares = rule.init(whole), map_leaves(np.zeros_like, params)
    for step in range(3):
        loss = update_touched_rows(params, squares, batch(step), 0.1)
        expected, cache = skip_gram.loss(whole, **batch(step))
        grads = skip_gram.loss.backward(40.0, cache)  # of the sum over 40 pairs
        rule.update(whole, grads, state)
        assert loss == pytest.approx(float(expected))
    assert_close(params, whole, 1e-12, "params")
    assert_close(squares, state["square_sum"], 1e-12, "Adagrad's memory")


def test_it_learns_who_stands_together():
    result = run(epochs=6)
    assert result.losses.shape == result.pairs.shape == (6,)
    assert result.losses[-1] < result.losses[0] - 0.1
    for word, kin in (("cat", {"dog", "cow", "hen"}), ("saw", {"axe", "file", "drill"})):
        assert {w for w, _ in result.vectors.nearest(word, 3)} == kin
    assert result.vectors.counts.tolist() == two_topics().counts.tolist()


def same(a, b):
    for name in ("vectors", "contexts"):
        np.testing.assert_array_equal(getattr(a.vectors, name), getattr(b.vectors, name))
    np.testing.assert_array_equal(a.losses, b.losses)
    np.testing.assert_array_equal(a.pairs, b.pairs)


def test_a_seed_decides_everything():
    same(run(), run())
    assert not np.array_equal(run().vectors.vectors, run(seed=1).vectors.vectors)


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    whole = run()
    from minillm.training import skip_gram as loop

    saved = loop._save

    def stopping(*args):
        saved(*args)
        if len(args[-1]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    read = []
    monkeypatch.setattr(
        loop,
        "skip_gram_pairs",
        lambda *a, f=loop.skip_gram_pairs, **k: (read.append(1), f(*a, **k))[1],
    )
    same(run(tmp_path), whole)
    assert len(read) == 1  # only the reading that was missing
    same(run(tmp_path), whole)
    assert len(read) == 1  # done: only read from the file


def test_other_settings_or_texts_make_a_new_file(tmp_path):
    for change in ({}, {}, {"seed": 1}, {"text": two_topics(seed=9)}, {"epochs": 1}):
        run(tmp_path, **({"epochs": 2} | change))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_run_is_named(tmp_path):
    run(tmp_path, epochs=1)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        run(tmp_path, epochs=1)
    save_safetensors(path, {"losses": np.zeros(1)})
    with pytest.raises(UserError, match=f"{path.name} is no run of skip-gram: 'pairs'"):
        run(tmp_path, epochs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": np.zeros(2)}, r"got \(2,\) and \(1,\)"),
        ({"losses": np.zeros(2), "pairs": np.ones(2, int)}, "each of at most 1 readings"),
        ({"losses": np.array(1.0)}, r"got \(\) and \(1,\)"),
        ({"params.word.weight": np.full((8, 6), np.nan, np.float32)}, "must be finite"),
    ],
)
def test_a_run_that_does_not_fit_is_named(tmp_path, change, message):
    run(tmp_path, epochs=1)
    (path,) = tmp_path.iterdir()
    save_safetensors(path, read_safetensors(path) | change)
    with pytest.raises(UserError, match=f"{path.name} is no run of skip-gram: .*{message}"):
        run(tmp_path, epochs=1)


def test_numbers_of_numpy_are_settings_too(tmp_path):
    run(tmp_path, n_embd=np.int64(6), lr=np.float64(0.3), epochs=1, seed=np.int32(0))
    run(tmp_path, n_embd=6, lr=0.3, epochs=1, seed=0)
    assert len(list(tmp_path.iterdir())) == 1


def test_wrong_input_is_named(tmp_path):
    for change, message in (
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"negatives": 2.5}, "negatives must be a whole number"),
        ({"subsample": 0}, "subsample must be above 0, got 0"),
        ({"lr": -1.0}, r"lr must be above 0 and finite, got -1\.0"),
        ({"lr": np.inf}, "lr must be above 0 and finite, got inf"),
        ({"noise_power": "much"}, "noise_power must be a number of at least 0, got 'much'"),
        ({"noise_power": -1}, "power must be a number of at least 0, got -1"),
    ):
        with pytest.raises(UserError, match=message):
            run(**change)
    with pytest.raises(UserError, match="the text's 5 words make no pair"):
        run(text=number_words([["a"]] * 5))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot make the folder"):
        run(tmp_path / "file", epochs=1)


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SkipGramSettings().lr = 1.0

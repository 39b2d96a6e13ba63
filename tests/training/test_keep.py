import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, Trainer, keep, train_or_load
from minillm.tree import leaves

calls = []


def squares(n, offset=0):
    calls.append(n)
    return {"squares": np.arange(n) ** 2 + offset, "mean": np.float64(n / 3), "name": "x"}


def cubes(n):
    return {"squares": np.arange(n) ** 3}


def test_kept_results_are_computed_once_and_equal_what_was_computed(tmp_path):
    calls.clear()
    first = keep(tmp_path / "deep" / "a.npz", squares, n=4)
    again = keep(tmp_path / "deep" / "a.npz", squares, n=4)
    assert calls == [4]
    for results in (first, again):
        assert results["squares"].tolist() == [0, 1, 4, 9]
        assert (results["mean"], type(results["mean"])) == (4 / 3, float)
        assert results["name"] == "x"


def test_other_settings_another_function_and_a_damaged_file_compute_anew(tmp_path):
    path = tmp_path / "a.npz"
    calls.clear()
    keep(path, squares, n=4)
    assert keep(path, squares, n=4, offset=1)["squares"].tolist() == [1, 2, 5, 10]
    assert keep(path, cubes, n=3)["squares"].tolist() == [0, 1, 8]
    keep(path, squares, n=5)
    path.write_bytes(path.read_bytes()[:-30])
    assert len(keep(path, squares, n=5)["squares"]) == 5
    assert calls == [4, 4, 5, 5]


def test_what_cannot_be_kept(tmp_path):
    with pytest.raises(UserError, match="a form in JSON"):
        keep(tmp_path / "a.npz", squares, n=object())
    with pytest.raises(UserError, match="'x' is no array of numbers"):
        keep(tmp_path / "a.npz", lambda: {"x": object()})
    with pytest.raises(UserError, match="must return a dict, got list"):
        keep(tmp_path / "a.npz", lambda n: [n], n=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        keep(tmp_path / "file" / "a.npz", cubes, n=1)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def small(seed=0):
    tokenizer = CharTokenizer.train("abcd")
    return LanguageModel.create("rnn", tokenizer, seed=seed, n_embd=4, n_hidden=5, n_layer=1)


def weights(model):
    return np.concatenate([leaf.ravel() for _, leaf in leaves(model.params)])


def test_a_training_is_done_once_and_continues_where_it_was_cut_off(tmp_path):
    ids = np.random.default_rng(0).integers(0, 4, 400)
    data = ids[:300], ids[300:]
    config = TrainConfig(steps=6, batch=2, block=8, eval_every=3, log_every=3, threads=1)

    def run(model, config=config, out=tmp_path):
        return train_or_load(model, data, config, out, progress=False)

    trained, loaded = small(), small()
    first, second = run(trained), run(loaded)
    assert (first.step, second.step) == (6, 6)
    assert np.array_equal(weights(trained), weights(loaded))
    assert second.history == first.history
    assert second.seconds == pytest.approx(first.seconds)
    assert len(list(tmp_path.iterdir())) == 1

    for other in (small(seed=1), small()):
        longer = TrainConfig(**config.to_dict() | {"steps": 7})
        run(other, longer if np.array_equal(weights(other), weights(small())) else config)
    assert len(list(tmp_path.iterdir())) == 3

    class Cut(Exception):
        pass

    def cut(line):
        if line["step"] == 3:
            raise Cut

    original = Trainer.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", lambda self: original(self, on_eval=cut))
        with pytest.raises(Cut):
            run(small(), out=tmp_path / "cut")
    continued = small()
    assert run(continued, out=tmp_path / "cut").step == 6
    assert np.array_equal(weights(continued), weights(trained))

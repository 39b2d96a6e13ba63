import json
import math
import os
import signal
import threading

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.language_model import LanguageModel
from minillm.training import TrainConfig, TrainingDiverged
from minillm.training.lock import FolderLock
from minillm.tree import flatten
from tests.training.runs import DATA, metrics, model, text, trainer, weights


def step_folders(out):
    return sorted(p.name for p in out.glob("step-*"))


@pytest.mark.parametrize("kind", ["gpt", "lstm", "gru", "neural-ngram"])
@pytest.mark.parametrize(
    "rule", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
)
def test_every_rule_lowers_the_loss(tmp_path, kind, rule):
    lr = {"sgd": 2.0, "momentum": 0.5, "nesterov": 0.5}.get(rule, 0.02)
    settings = {"optimizer": rule, "lr": lr, "clip": 0.0, "weight_decay": 1e-4, "threads": 1}
    shape = {"dropout": 0.0}
    run = trainer(tmp_path / "run", lm=model(kind, **shape), steps=40, eval_every=40, **settings)
    result = run.run()
    first, last = result.history[0], result.history[-1]
    assert first["validation_loss"] == pytest.approx(math.log(12), abs=0.5)  # it begins by guessing
    assert last["validation_loss"] < first["validation_loss"] - 0.1


def test_result_log_and_folder(tmp_path):
    seen = []
    result = trainer(tmp_path, steps=10).run(on_eval=lambda line: seen.append(line["step"]))
    assert (result.step, result.stopped) == (10, "steps")
    assert [line["step"] for line in result.history] == [0, 3, 4, 6, 8, 9, 10]
    assert seen == [0, 4, 8, 10]
    assert metrics(tmp_path) == [
        {k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")}
        for line in result.history
    ]
    for line in result.history:
        assert (line["validation_loss"] is not None) == (line["step"] in seen)
        assert (line["train_loss"] is None) == (line["step"] == 0)
    seconds = [line["seconds"] for line in result.history]
    assert seconds == sorted(seconds)
    evaluated = {x["step"]: x["validation_loss"] for x in result.history if x["step"] in seen}
    assert result.best_loss == min(evaluated.values()) == evaluated[result.best_step]
    assert os.readlink(tmp_path / "last") == "step-000010"
    assert os.readlink(tmp_path / "best") == f"step-{result.best_step:06d}"
    assert set(step_folders(tmp_path)) == {"step-000010", f"step-{result.best_step:06d}"}
    assert sorted(p.name for p in (tmp_path / "last").iterdir()) == [
        "model.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]


def test_checkpoint_is_the_trained_model(tmp_path):
    run = trainer(tmp_path, "lstm")
    run.run()
    loaded = LanguageModel.load(tmp_path / "last")
    for name, p in flatten(run.model.params).items():
        assert np.array_equal(flatten(loaded.params)[name], p)


def test_logged_training_loss_is_the_mean_since_the_line_before(tmp_path):
    every = [x["train_loss"] for x in trainer(tmp_path / "a", log_every=1).run().history[1:]]
    third = list(trainer(tmp_path / "b", log_every=3, eval_every=0).run().history)
    assert [line["train_loss"] for line in third] == pytest.approx(
        [np.mean(every[i : i + 3]) for i in range(0, 12, 3)]
    )
    assert all(line["validation_loss"] is None for line in third)


def test_without_validation_there_is_no_best(tmp_path):
    result = trainer(tmp_path, data=(DATA[0], None)).run()
    assert result.best_loss is None
    assert not os.path.lexists(tmp_path / "best")
    assert step_folders(tmp_path) == ["step-000012"]


def test_early_stopping(tmp_path):
    # With a rate of zero the first evaluation stays the best, and three come after it.
    result = trainer(tmp_path, lr=0.0, warmup=0, steps=100, eval_every=2, patience=3).run()
    assert result.stopped == "patience"
    assert result.step == 6
    assert result.best_step == 0
    assert os.readlink(tmp_path / "last") == "step-000006"
    assert os.readlink(tmp_path / "best") == "step-000000"
    again = trainer(
        tmp_path, lr=0.0, warmup=0, steps=100, eval_every=2, patience=3, resume=True
    ).run()
    assert (again.stopped, again.step) == ("patience", 6)


def test_time_is_a_limit(tmp_path):
    result = trainer(tmp_path, steps=10**6, warmup=0, max_seconds=0.3).run()
    assert result.stopped == "time"
    assert 0.3 <= result.seconds < 60
    assert result.history[-1]["step"] == result.step > 0
    assert result.history[-1]["validation_loss"] is not None
    assert os.readlink(tmp_path / "last") == f"step-{result.step:06d}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_with_a_checkpoint(tmp_path, number):
    before = signal.getsignal(number)
    result = trainer(tmp_path, steps=50, warmup=0).run(
        on_eval=lambda line: line["step"] == 8 and os.kill(os.getpid(), number)
    )
    assert signal.getsignal(number) is before
    assert result.stopped == signal.Signals(number).name
    assert 8 <= result.step <= 9
    assert os.readlink(tmp_path / "last") == f"step-{result.step:06d}"


def test_a_second_signal_is_not_swallowed(tmp_path):
    def impatient(line):
        if line["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).run(on_eval=impatient)
    assert trainer(tmp_path, resume=True).run().step == 12


def test_runs_outside_the_main_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(trainer(tmp_path).run()))
    thread.start()
    thread.join(60)
    assert results[0].step == 12


def test_a_run_is_never_overwritten(tmp_path):
    trainer(tmp_path).run()
    before = weights(tmp_path), (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="holds a run already: continue it with --resume"):
        trainer(tmp_path)
    assert (weights(tmp_path), (tmp_path / "metrics.jsonl").read_bytes()) == before
    for name in ("last", "best"):
        os.unlink(tmp_path / name)
    with pytest.raises(UserError, match="holds a run already"):
        trainer(tmp_path)


def test_a_run_that_never_saved_a_step_gives_way_to_another(tmp_path):
    run = trainer(tmp_path, lr=1e30, warmup=0, clip=0.0, optimizer="sgd")
    with pytest.raises(TrainingDiverged):
        run.run()
    assert trainer(tmp_path).run().step == 12
    assert trainer(tmp_path, resume=True, steps=13).run().step == 13


def test_two_processes_never_share_a_folder(tmp_path):
    trainer(tmp_path).run()
    held = FolderLock(tmp_path)  # as another process would: flock tells open files apart
    with pytest.raises(UserError, match="is in use: another process is training there"):
        trainer(tmp_path, resume=True)
    held.release()
    first = trainer(tmp_path / "new")
    held = FolderLock(tmp_path / "new")
    with pytest.raises(UserError, match="is in use"):
        first.run()
    held.release()
    assert first.run().step == 12


def test_divergence_names_step_and_gradient_and_keeps_the_checkpoint(tmp_path):
    run = trainer(tmp_path, lr=1e30, warmup=0, clip=0.0, optimizer="sgd")
    message = (
        r"step 2: the loss is (nan|inf); the first gradient to go bad, coming from the output, is "
        r"that of norm.bias \(\d+ of \d+ are not finite\); .*/last keeps step-000000; "
        r"try a lower lr than 1e\+30"
    )
    with pytest.raises(TrainingDiverged, match=message):
        run.run()
    kept = LanguageModel.load(tmp_path / "last")
    for name, p in flatten(model().params).items():
        assert np.array_equal(flatten(kept.params)[name], p)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_weight_is_noticed_before_it_spreads(tmp_path, bad):
    lm = model()
    lm.params["blocks"][0]["mlp"]["up"]["weight"][2, 3] = bad
    with pytest.raises(TrainingDiverged, match="step 0: the validation loss is nan"):
        trainer(tmp_path / "a", lm=lm).run()
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss is nan; the first gradient"):
        trainer(tmp_path / "b", lm=lm, eval_every=0).run()


def test_parameters_from_a_file_can_be_trained(tmp_path):
    lm = model()
    lm.params["wte"].flags.writeable = False
    lm.params["wpe"] = np.asfortranarray(lm.params["wpe"])
    trainer(tmp_path / "a", lm=lm).run()
    trainer(tmp_path / "b").run()
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ((text(8, 0), DATA[1]), {}, "the text is too short: 8 tokens"),
        ((DATA[0], text(8, 0)), {}, "the validation text is too short: 8 tokens"),
        ((DATA[0] + 5, DATA[1]), {}, r"ids must be in \[0, 12\)"),
        ((DATA[0], DATA[1] + 5), {}, r"ids must be in \[0, 12\)"),
        ((np.where(DATA[0] == 3, np.nan, DATA[0]), DATA[1]), {}, "ids must be 1-D integers"),
        (DATA, {"block": 9}, "block must be at most the model's 8, got 9"),
    ],
)
def test_bad_data_is_refused_before_anything_is_written(tmp_path, data, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run", data=data, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"steps": None}, "steps must be a whole number, got None"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"block": True}, "block must be a whole number, got True"),
        ({"lr": -0.1}, "lr must be at least 0, got -0.1"),
        ({"lr": math.nan}, "lr must be at least 0, got nan"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"max_seconds": math.inf}, "max_seconds must be"),
        ({"beta2": 1.0}, "beta2 must be below 1, got 1.0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, momentum, .*, got 'lion'"),
        ({"schedule": "steps"}, "schedule must be one of constant, linear, cosine, got 'steps'"),
        ({"warmup": 20, "steps": 10}, "warmup must be at most steps, 10, got 20"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**settings)


def test_settings_survive_json():
    config = TrainConfig(steps=7, max_seconds=2.5)
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config

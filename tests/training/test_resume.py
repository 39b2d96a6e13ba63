"""A run that was stopped and resumed is, bit for bit, the run that never was."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minillm.cores import available_cores
from minillm.errors import UserError
from tests.training.runs import DATA, metrics, model, same_run, text, trainer, weights

KINDS = ["gpt", "lstm", "gru", "neural-ngram"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accumulation", [1, 3])
def test_after_ctrl_c_at_any_step(tmp_path, kind, accumulation):
    settings = {"accumulation": accumulation, "steps": 9}
    trainer(tmp_path / "whole", kind, **settings).run()
    for stop in (1, 4, 5, 8):  # between lines of the log, at an evaluation, at a checkpoint
        out = tmp_path / f"stopped-{stop}"
        run = trainer(out, kind, **settings)
        step = run._step

        def interrupted(run=run, step=step, stop=stop):
            step()
            if run.counters.step == stop:
                os.kill(os.getpid(), signal.SIGINT)

        run._step = interrupted
        assert run.run().stopped == "SIGINT"
        assert os.readlink(out / "last") == f"step-{stop:06d}"
        result = trainer(out, kind, resume=True, **settings).run()
        assert result.step == 9
        same_run(out, tmp_path / "whole")
        assert [line["step"] for line in result.history] == [line["step"] for line in metrics(out)]


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_after_a_crash_it_falls_back_to_the_last_checkpoint(tmp_path, kind):
    trainer(tmp_path / "whole", kind).run()
    for crash in (0, 8, 12):  # at each an evaluation has been logged and no checkpoint written yet
        out = tmp_path / f"crashed-{crash}"

        def fail(line, crash=crash):
            if line["step"] == crash:
                raise Stop

        with pytest.raises(Stop):
            trainer(out, kind).run(on_eval=fail)
        result = trainer(out, kind, resume=True).run()
        seconds = [line["seconds"] for line in result.history]
        assert seconds == sorted(seconds), "the clock goes on where the checkpoint stopped it"
        same_run(out, tmp_path / "whole")


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_after_kill_9_at_random_moments(tmp_path, kind):
    """A process of its own, killed wherever it is: in a step, a checkpoint or a line of the log."""
    more = ["steps=80", "eval_every=7", "checkpoint_every=2", "log_every=1"]

    def start(out):
        command = [sys.executable, "-m", "tests.training.runs", out, kind, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(out):
        process = start(out)
        process.communicate(timeout=120)
        assert process.returncode == 0

    def lines(log):
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    log = tmp_path / "killed" / "metrics.jsonl"
    rng = np.random.default_rng([7, len(kind)])
    for target in (0, 12, 30, 48):  # lines of the log, the first killed in its first milliseconds
        process = start(tmp_path / "killed")
        while (
            process.poll() is None and log.exists() and len(log.read_bytes().splitlines()) < target
        ):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
    finish(tmp_path / "killed")
    finish(tmp_path / "whole")
    same_run(tmp_path / "killed", tmp_path / "whole")


def test_sigterm_ends_a_process_cleanly(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.runs", tmp_path / "a", "gpt", "steps=1000000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    while not (tmp_path / "a" / "metrics.jsonl").exists():
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "a" / "last" / "weights.safetensors").exists()


def test_more_steps_continue_a_finished_run(tmp_path):
    settings = {"schedule": "constant", "log_every": 1, "eval_every": 4}
    trainer(tmp_path / "whole", steps=16, **settings).run()
    trainer(tmp_path / "longer", steps=8, **settings).run()
    result = trainer(tmp_path / "longer", resume=True, steps=16, **settings).run()
    assert result.step == 16
    same_run(tmp_path / "longer", tmp_path / "whole")
    assert trainer(tmp_path / "longer", resume=True, steps=16, **settings).run().step == 16


def test_threads_are_the_runs_own_unless_given(tmp_path):
    trainer(tmp_path / "whole", threads=3).run()
    trainer(tmp_path / "a", threads=3, steps=6, schedule="constant").run()
    run = trainer(tmp_path / "a", threads=None, resume=True, schedule="constant")
    assert run.config.threads == 3
    assert trainer(tmp_path / "b", threads=None).config.threads == available_cores()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.5}, r"lr: the run to resume has 0.02, not 0.5"),
        ({"batch": 6}, r"batch: the run to resume has 5, not 6"),
        ({"seed": 4}, r"seed: the run to resume has 3, not 4"),
        ({"threads": 1}, r"threads: the run to resume has 2, not 1"),
        ({"optimizer": "sgd"}, r"optimizer: the run to resume has adamw, not sgd"),
        ({"steps": 11}, r"steps: the run to resume has 12, which may be raised, not lowered to 11"),
    ],
)
def test_other_settings_are_named(tmp_path, changed, message):
    trainer(tmp_path).run()
    before = weights(tmp_path)
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, resume=True, **changed)
    assert weights(tmp_path) == before


def test_another_model_or_other_data_are_refused(tmp_path):
    trainer(tmp_path).run()
    with pytest.raises(UserError, match="checkpoint's kind is 'gpt', not 'lstm'"):
        trainer(tmp_path, "lstm", resume=True)
    with pytest.raises(UserError, match="checkpoint's config is not this model's"):
        trainer(tmp_path, lm=model(n_embd=32), resume=True)
    with pytest.raises(UserError, match="the training data is not that of the run to resume: 1500"):
        trainer(tmp_path, data=(text(1500, 9), DATA[1]), resume=True)
    with pytest.raises(UserError, match="the validation data is not that of the run"):
        trainer(tmp_path, data=(DATA[0], None), resume=True)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UserError, match="holds no run to resume"):
        trainer(tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.safetensors", "state.json", "model.json"]
)
@pytest.mark.parametrize("share", [None, 0.5])
def test_missing_or_truncated_checkpoints_are_named(tmp_path, name, share):
    trainer(tmp_path).run()
    path = tmp_path / "last" / name
    data = path.read_bytes()
    path.unlink()
    if share:
        path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=name):
        trainer(tmp_path, resume=True)


def test_the_given_models_weights_do_not_matter(tmp_path):
    trainer(tmp_path / "whole", schedule="constant").run()
    trainer(tmp_path / "a", schedule="constant", steps=6).run()
    other = model()
    other.params["wte"] += 1
    trainer(tmp_path / "a", lm=other, resume=True, schedule="constant").run()
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")

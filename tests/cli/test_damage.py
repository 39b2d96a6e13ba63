"""Damaged checkpoints, full disks, folders that may not be written to: one line, nothing lost."""

import contextlib
import errno
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minillm.files
from minillm.cli import run as run_command
from minillm.files import read_safetensors, save_safetensors
from tests.cli.conftest import QUICK, TINY_GPT, TINY_LSTM

BIG = ["--n-layer", 2, "--n-embd", 64, "--block", 16, "--batch", 4]  # 1.3 MB a checkpoint

COMMANDS = {
    "eval": lambda run: ["eval", run, "--data", "topics"],
    "generate": lambda run: ["generate", run, "--prompt", "A"],
    "resume": lambda run: ["train", "--resume", "--out", run, "--steps", 9],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_checkpoint(mistake, command):
    Path("empty").mkdir()
    Path("file").write_text("no folder")
    for run in ("missing", "empty", "file"):
        error = mistake(*COMMANDS[command](run))
        assert run in error
        assert "no " in error or "a file" in error


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_truncated_checkpoint(mistake, own_gpt, command, name, share):
    cut(own_gpt / "last" / name, share)  # last and best are the same folder here
    error = mistake(*COMMANDS[command](own_gpt))
    assert name in error
    assert "damaged" in error or "cut off" in error


@pytest.mark.parametrize("name", ["optimizer.safetensors", "state.json"])
def test_a_truncated_training_state(mistake, own_gpt, name):
    cut(own_gpt / "last" / name, 0.5)
    assert name in mistake(*COMMANDS["resume"](own_gpt))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_of_a_checkpoint(mistake, own_gpt, command, name):
    os.unlink(own_gpt / "last" / name)
    error = mistake(*COMMANDS[command](own_gpt))
    assert name in error
    assert "missing" in error or "No such file" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_of_another_kind(mistake, own_gpt, trained, command):
    """The weights of an LSTM beside the description of a GPT, and the other way round."""
    os.replace(own_gpt / "last" / "weights.safetensors", own_gpt / "weights.gpt")
    data = (trained / "lstm" / "last" / "weights.safetensors").read_bytes()
    (own_gpt / "last" / "weights.safetensors").write_bytes(data)
    error = mistake(*COMMANDS[command](own_gpt))
    assert "last" in error or "best" in error or "step-" in error
    assert "missing" in error or "not expected" in error or "left over" in error
    os.replace(own_gpt / "weights.gpt", own_gpt / "last" / "weights.safetensors")
    data = (trained / "lstm" / "last" / "model.json").read_bytes()
    (own_gpt / "last" / "model.json").write_bytes(data)
    mistake(*COMMANDS[command](own_gpt))


@pytest.mark.parametrize("command", ["eval", "generate"])
def test_an_unknown_kind(mistake, own_gpt, command):
    path = own_gpt / "last" / "model.json"
    path.write_text(path.read_text().replace('"kind": "gpt"', '"kind": "bert"'))
    assert "bert" in mistake(*COMMANDS[command](own_gpt))


@pytest.mark.parametrize("command", ["eval", "generate"])
def test_a_vocabulary_larger_than_the_embedding(mistake, own_gpt, command):
    path = own_gpt / "last" / "model.json"
    saved = json.loads(path.read_text())
    before = len(saved["tokenizer"]["characters"]) + 2
    saved["tokenizer"]["characters"] += "☃☄"
    path.write_text(json.dumps(saved))
    error = mistake(*COMMANDS[command](own_gpt))
    assert f"the tokenizer has {before + 2} tokens, but the model's embedding has {before}" in error


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("command", COMMANDS)
def test_weights_that_are_no_numbers(mistake, own_gpt, command, bad):
    path = own_gpt / "last" / "weights.safetensors"
    weights = read_safetensors(path)
    weights["blocks.0.mlp.up.weight"] = weights["blocks.0.mlp.up.weight"].copy()
    weights["blocks.0.mlp.up.weight"][1, 2] = bad
    save_safetensors(path, weights)
    error = mistake(*COMMANDS[command](own_gpt))
    if command == "resume":
        assert "step 7: the loss is nan" in error
    else:
        assert "1 of 1024 weights in blocks.0.mlp.up.weight are NaN or inf" in error


def test_a_loss_that_diverges_stops_and_keeps_what_was_saved(mistake, book):
    args = ["--data", book, *TINY_LSTM, *QUICK, "--lr", 1e30, "--clip", 0, "--optimizer", "sgd"]
    error = mistake("train", "lstm", "--out", "r", *args)
    assert "the first gradient to go bad" in error
    assert "try a lower lr than 1e+30" in error
    for weight in read_safetensors("r/last/weights.safetensors").values():
        assert np.isfinite(weight).all()


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of `size` bytes at `folder`; yields whether this system lets us mount one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


class FullAfter:
    """Stands in for os.fsync: a disk that is full after so many files."""

    def __init__(self, files):
        self.left = files

    def __call__(self, handle):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def left_whole(run):
    """Assert that a run which could not go on left nothing half written, and can be used."""
    assert not [path for path in run.rglob("*") if path.name.startswith(minillm.files.TEMPORARY)]
    assert run_command(["generate", str(run), "-n", "5"]) == 0
    assert run_command(["eval", str(run)]) == 0


def test_a_full_disk(mistake, book, tmp_path, monkeypatch):
    args = ["--data", book, *BIG, "--steps", 4, "--eval-every", 1, "--eval-batches", 1]
    run = tmp_path / "disk" / "run"
    with small_disk(run.parent, "2m") as mounted, monkeypatch.context() as patch:
        if not mounted:  # room for one checkpoint: 4 files, their folder and two links
            patch.setattr("minillm.files.os.fsync", FullAfter(12))
        error = mistake("train", "gpt", "--out", run, *args)
        assert "No space left on device" in error
        assert str(run) in error
        left_whole(run)
        # nothing was learnt, so the same command may try again
        assert "No space left on device" in mistake("train", "gpt", "--out", run, *args)


@pytest.mark.parametrize("files", range(0, 25, 3))
def test_a_disk_that_is_full_at_any_moment(mistake, book, monkeypatch, tmp_path, files):
    args = ["--data", book, *TINY_GPT, *QUICK, "--eval-every", 1]
    with monkeypatch.context() as patch:
        patch.setattr("minillm.files.os.fsync", FullAfter(files))
        error = mistake("train", "gpt", "--out", tmp_path / "run", *args)
    assert "No space left on device" in error
    if (tmp_path / "run" / "last").exists():
        left_whole(tmp_path / "run")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("command", [["train", "unigram"], ["train", "gpt", *TINY_GPT], ["demo"]])
def test_a_folder_that_may_not_be_written_to(mistake, book, monkeypatch, command, code):
    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    data = ["--data", book] if command[0] == "train" else []
    monkeypatch.setattr(Path, "mkdir", refuse)
    error = mistake(*command, *data, "--out", "r")
    assert os.strerror(code) in error
    assert "r" in error


@pytest.mark.parametrize("command", [["train", "unigram"], ["train", "gpt", *TINY_GPT], ["demo"]])
def test_a_file_where_the_folder_should_be(mistake, book, command):
    Path("file").write_text("mine")
    data = ["--data", book] if command[0] == "train" else []
    for out in ("file", "file/run"):
        error = mistake(*command, *data, "--out", out)
        assert "file" in error
    assert Path("file").read_text() == "mine"

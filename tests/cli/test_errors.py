"""Every mistake ends in exit code 2 and one line that names it, and nothing is lost."""

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minillm.cli
import minillm.files
from minillm.cli import run as run_command
from minillm.errors import UserError
from minillm.files import read_safetensors, save_safetensors
from tests.cli.conftest import QUICK, TINY_GPT, TINY_LSTM

BIG = ["--n-layer", 2, "--n-embd", 64, "--block", 16, "--batch", 4]  # 1.3 MB a checkpoint


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean train? (see minillm --help)"),
        (["xyz"], "unknown command 'xyz': there are: bench, demo, eval, generate, train"),
        (["--halp"], "no such option: --halp; did you mean --help?"),
        (["bench", "gpu"], "unknown command 'gpu': did you mean cpu?"),
        (["train", "gtp", "--out", "r"], "unknown model 'gtp': did you mean gpt?"),
        (["train", "bert", "--out", "r"], "unknown model 'bert': there are: gpt, gru, lstm,"),
        (["train", "--out", "r"], "which model? there are: gpt, rnn, lstm, gru, ngram"),
        (["train", "gpt"], "missing option '--out' (see minillm train --help)"),
        (
            ["train", "gpt", "--out", "r", "--stpes", 3],
            "no such option: --stpes; did you mean",
        ),
        (["train", "gpt", "--out", "r", "--steps", "many"], "'many' is not a valid integer"),
        (["train", "gpt", "--out", "r", "--steps"], "option '--steps' requires an argument"),
        (["train", "gpt", "--out", "r", "extra"], "got unexpected extra argument (extra)"),
        (["train", "gpt", "--out", "r", "--optimizer", "adma"], "unknown optimizer 'adma': did yo"),
        (["train", "gpt", "--out", "r", "--tokenizer", "bpe"], "unknown tokenizer 'bpe': there ar"),
        (
            ["train", "gpt", "--out", "r", "--backend", "x"],
            "unknown backend 'x'; this install",
        ),
        (["train", "ngram", "--out", "r", "--steps", 3], "ngram takes no --steps: it is for gpt,"),
        (["train", "gpt", "--out", "r", "--n-hidden", 3], "gpt takes no --n-hidden: it is for rnn"),
        (["train", "lstm", "--out", "r", "--n-head", 3], "lstm takes no --n-head: it is for gpt"),
        (["generate"], "missing argument 'RUN'"),
        (["demo", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["bench", "cpu", "--rounds", "1"], "rounds must be at least 5, got 1"),
    ],
)
def test_a_mistyped_command_line(mistake, args, message):
    assert message in mistake(*args)
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        ("gpt", ["--steps", -5], "steps must be at least 0, got -5"),
        ("gpt", ["--batch", 0], "batch must be at least 1, got 0"),
        ("gpt", ["--block", 0], "block must be at least 1, got 0"),
        ("gpt", ["--lr", "nan"], "lr must be at least 0, got nan"),
        ("gpt", ["--lr", -1], "lr must be at least 0, got -1.0"),
        ("gpt", ["--beta2", 1], "beta2 must be below 1, got 1.0"),
        ("gpt", ["--threads", 0], "threads must be at least 1, got 0"),
        ("gpt", ["--seed", -1], "seed must be at least 0, got -1"),
        ("gpt", ["--steps", 5, "--warmup", 9], "warmup must be at most steps, 5, got 9"),
        ("gpt", ["--n-embd", 10, "--n-head", 4], "n_embd 10 must be a multiple of n_head 4"),
        ("gpt", ["--n-kv-head", 3], "n_head 4 must be a multiple of n_kv_head 3"),
        ("gpt", ["--dropout", 1], "dropout must be in [0, 1), got 1.0"),
        ("gpt", ["--position", "rotary", "--n-embd", 12], "rotary positions need an even head"),
        ("lstm", ["--n-hidden", 0], "n_hidden must be a whole number of at least 1, got 0"),
        ("lstm", ["--tied", "--n-embd", 8], "tied needs n_embd == n_hidden"),
        ("ngram", ["--order", 0], "order must be a whole number of at least 1, got 0"),
        ("gpt", ["--split", "0.9,0.2,0"], "fractions must sum to 1"),
        ("gpt", ["--split", "0,1,0"], "the training part is empty"),
        ("gpt", ["--block", 5000], "the text is too short: "),
        ("lstm", ["--batch", 5000], "the text is too short: "),
        ("gpt", ["--block", 700], "the validation text is too short: "),
    ],
)
def test_a_setting_out_of_its_range(mistake, book, kind, args, message):
    assert message in mistake("train", kind, "--data", book, "--out", "r", *args)
    assert not Path("r").exists()


@pytest.mark.parametrize("command", ["train", "eval"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text.txt: no such file or folder"),
        (b"", "text.txt: the file is empty"),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            "text.txt: a binary file, not text: a zero byte at",
        ),
        ("café".encode("latin-1"), "text.txt: not UTF-8: byte 3 is 0xe9"),
        ("hello".encode("utf-16"), "text.txt: not UTF-8 at byte 0: it begins as UTF-16 does"),
    ],
)
def test_a_text_that_cannot_be_read(mistake, trained, command, content, message):
    if content is not None:
        Path("text.txt").write_bytes(content)
    args = ["gpt", "--out", "r"] if command == "train" else [trained / "gpt"]
    assert message in mistake(command, *args, "--data", "text.txt")
    assert not Path("r").exists()


def test_a_text_shorter_than_one_block(mistake):
    Path("text.txt").write_text("too short")
    for kind in ("gpt", "lstm"):
        error = mistake("train", kind, "--data", "text.txt", "--split", "1,0,0", "--out", "r")
        assert "the text is too short: 10 tokens, but" in error
    assert not Path("r").exists()


def test_a_prompt_with_unknown_characters(mistake, trained):
    error = mistake("generate", trained / "ngram", "--prompt", "日本")
    assert "the prompt has characters that the model has never seen: '日' (U+65E5)" in error


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
        assert "holds a run already" in mistake("train", "gpt", "--out", run, *args)


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


class FullOutput(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_output_that_cannot_be_written(minillm, trained, monkeypatch):
    monkeypatch.setattr("sys.stdout", FullOutput())
    outcome = minillm("generate", trained / "ngram", "-n", 5)
    assert (outcome.code, outcome.err) == (2, "minillm: No space left on device\n")


def test_a_reader_that_has_seen_enough(trained):
    code = "import sys; from minillm.cli import main; main()"
    root = str(Path(__file__).parents[2])
    args = [sys.executable, "-c", code, "generate", str(trained / "ngram"), "--no-stop", "--stream"]
    process = subprocess.Popen(
        [*args, "-n", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("error", "code", "ends"),
    [
        (UserError("two\nlines"), 2, "minillm: two lines\n"),
        (OSError(errno.EIO, "Input/output error", "a/b"), 2, "minillm: a/b: Input/output error\n"),
        (MemoryError(), 2, "minillm: not enough memory; a smaller --batch, --block or model needs"),
        (KeyboardInterrupt(), 3, "minillm: interrupted\n"),
        (ValueError("x"), 4, "minillm: this is a fault of ours, not yours; the lines above say"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(minillm, monkeypatch, error, code, ends):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("minillm.demo.run_demo", fail)
    outcome = minillm("demo")
    assert outcome.code == code
    assert outcome.err.splitlines()[-1].startswith(ends.strip())
    assert ("Traceback" in outcome.err) == (code == 4)

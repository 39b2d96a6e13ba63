import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minillm.files import read_safetensors
from tests.cli.conftest import QUICK, TINY_GPT, TINY_LSTM

LLAMA = ["--norm", "rms", "--mlp", "swiglu", "--position", "rotary", "--n-kv-head", 1, "--no-bias"]


def weights(out, link="last"):
    return (Path(out) / link / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gpt", [*TINY_GPT, *QUICK]),
        ("gpt", [*TINY_GPT, *QUICK, *LLAMA, "--no-tied", "--dropout", 0.1]),
        ("rnn", [*TINY_LSTM, *QUICK, "--optimizer", "sgd", "--schedule", "linear"]),
        ("gru", [*TINY_LSTM, *QUICK, "--tokenizer", "byte", "--accumulation", 2]),
        ("neural-ngram", ["--order", 3, "--n-embd", 8, "--n-hidden", 8, "--direct", *QUICK]),
    ],
)
def test_a_run_says_what_it_did_and_leaves_its_files(minillm, book, kind, options):
    done = minillm("train", kind, "--data", book, "--out", "run", *options)
    assert done.code == 0
    assert done.err == ""
    assert "train: 1 documents" in done.out
    assert f"{kind}: " in done.out
    assert "step 6/6" in done.out
    assert "6 steps in" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert {"validation", "test"} <= {row[0] for row in rows if len(row) == 5}
    assert "best validation loss" in done.out
    for name in ("best", "last", "metrics.jsonl", "curve.png"):
        assert f"run/{name}" in done.out
        assert Path("run", name).exists()
    assert Path("run/curve.png").read_bytes()[:4] == b"\x89PNG"
    for name in read_safetensors("run/last/weights.safetensors"):
        assert np.isfinite(read_safetensors("run/last/weights.safetensors")[name]).all()


@pytest.mark.parametrize("kind", ["unigram", "uniform", "ngram"])
def test_a_counted_model_lies_in_the_same_folders(minillm, book, kind):
    done = minillm("train", kind, "--data", book, "--out", "run")
    assert done.code == 0
    assert "\ntest " in done.out
    assert json.loads(Path("run/last/model.json").read_text())["kind"] == kind
    assert os.readlink("run/best") == os.readlink("run/last") == "step-000000"


def test_same_seed_same_weights(minillm, book):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        args = [*TINY_GPT, *QUICK, "--seed", seed, "--dropout", 0.1]
        assert minillm("train", "gpt", "--data", book, "--out", out, *args).code == 0
    assert weights("a") == weights("b") != weights("c")


def test_a_text_without_validation_or_test_part(minillm, book):
    args = ["--data", book, "--split", "1,0,0", *TINY_LSTM, *QUICK]
    done = minillm("train", "lstm", "--out", "run", *args)
    assert done.code == 0
    assert "perplexity" not in done.out
    assert "best validation" not in done.out
    assert not Path("run/best").exists()
    assert Path("run/last").exists()


@pytest.mark.parametrize(("kind", "shape"), [("gpt", TINY_GPT), ("lstm", TINY_LSTM)])
def test_resume_needs_no_settings_again_and_changes_no_bit(minillm, book, kind, shape):
    args = ["--data", book, *shape, *QUICK, "--dropout", 0.1, "--schedule", "constant"]
    minillm("train", kind, "--out", "whole", *args)
    minillm("train", kind, "--out", "cut", *args, "--steps", 3)
    done = minillm("train", "--resume", "--out", "cut", "--steps", 6)
    assert done.code == 0
    assert "step 6/6" in done.out
    assert weights("cut") == weights("whole")
    assert weights("cut", "best") == weights("whole", "best")
    assert "step 3" not in minillm("train", "--resume", "--out", "cut", "--steps", 6).out


def test_resume_works_from_another_folder(minillm, book, tmp_path, monkeypatch):
    Path("here.txt").write_text(book.read_text())
    args = ["--data", "here.txt", *TINY_LSTM, *QUICK]
    assert minillm("train", "lstm", "--out", "run", *args).code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert minillm("train", "--resume", "--out", "../run", "--steps", 8).code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--lr", 0.5], "lr: the run to resume has the default, not 0.5"),
        (["--n-embd", 32], "n_embd: the run to resume has 16, not 32"),
        (["--split", "0.5,0.5,0"], "split: the run to resume has [0.8, 0.1, 0.1], not (0.5"),
        (["--data", "topics"], "data: the run to resume has ["),
        (["--steps", 4], "steps: the run to resume has 6, which may be raised, not lowered to 4"),
    ],
)
def test_resume_refuses_other_settings(mistake, own_gpt, args, message):
    assert message in mistake("train", "--resume", "--out", own_gpt, *args)


def test_resume_refuses_another_model_and_no_run(mistake, own_gpt, trained):
    error = mistake("train", "lstm", "--resume", "--out", own_gpt)
    assert "is of the model gpt, not lstm" in error
    assert "holds no run to resume" in mistake("train", "gpt", "--resume", "--out", "nowhere")
    error = mistake("train", "--resume", "--out", trained / "ngram")
    assert error == "minillm: ngram is counted in one go: there is nothing to resume"


def test_resume_refuses_a_changed_text(mistake, minillm, book, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(book.read_text())
    minillm("train", "lstm", "--data", text, "--out", "run", *TINY_LSTM, *QUICK)
    text.write_text(book.read_text().replace("cat", "cow"))
    assert "data is not that of the run" in mistake(
        "train", "--resume", "--out", "run", "--steps", 9
    )


def test_a_run_is_never_overwritten(mistake, own_gpt, book):
    before = weights(own_gpt)
    args = ["--data", book, "--out", own_gpt]
    for kind, more in (("gpt", [*TINY_GPT, *QUICK]), ("ngram", [])):
        assert "holds a run already" in mistake("train", kind, *args, *more)
    assert weights(own_gpt) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint_and_says_how_to_go_on(minillm, book, number):
    args = ["train", "lstm", "--data", str(book), "--out", "run", *map(str, TINY_LSTM)]
    args += ["--steps", "1000000", "--threads", "1", "--eval-every", "0"]
    code = "import sys; from minillm.cli import main; main()"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step "):
            break
    time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 3
    assert f"stopped by {number.name} after step" in out
    assert "minillm train --resume --out run" in out
    step = json.loads(Path("run/last/state.json").read_text())["step"]
    done = minillm("train", "--resume", "--out", "run", "--steps", 1000000, "--max-seconds", 0.01)
    assert done.code == 0
    assert f"{step:,} steps" in done.out
    assert "out of time" in done.out


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_chinese_works_as_well(minillm, tokenizer):
    Path("红楼.txt").write_text(
        "满纸荒唐言，一把辛酸泪！都云作者痴，谁解其中味？\n" * 40, encoding="utf-8"
    )
    args = ["--data", "红楼.txt", "--tokenizer", tokenizer, *TINY_GPT, *QUICK]
    assert minillm("train", "gpt", "--out", "run", *args).code == 0
    assert "bits per byte" in minillm("eval", "run").out
    done = minillm("generate", "run", "--prompt", "一把", "-n", 12, "--stream")
    assert done.code == 0
    assert done.out.startswith("一把")


def test_a_run_goes_on_when_nobody_reads_its_output(book, tmp_path):
    args = ["train", "lstm", "--data", str(book), "--out", "run", *map(str, TINY_LSTM)]
    command = [sys.executable, "-c", "from minillm.cli import main; main()", *args]
    more = ["--steps", "40", "--eval-every", "5", "--eval-batches", "1", "--threads", "1"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` leaves it
    with os.fdopen(writer) as stdout:
        done = subprocess.run(
            command + more,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        tmp_path / "run" / "last" / "weights.safetensors"
    ).resolve().parent.name == "step-000040"
    assert (tmp_path / "run" / "curve.png").exists()


@pytest.mark.parametrize("command", [("train", "gpt"), ("demo",)])
def test_an_empty_out_is_not_the_current_folder(mistake, command):
    assert "--out must name a folder" in mistake(*command, "--out", "")

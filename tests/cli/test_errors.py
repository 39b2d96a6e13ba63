"""Every mistake on the command line or in a text ends in exit code 2 and one line that names it."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minillm.errors import UserError


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean train? (see minillm --help)"),
        (["xyz"], "unknown command 'xyz': there are: bench, course, demo, eval, export, generate,"),
        (["--halp"], "no such option: --halp; did you mean --help?"),
        (["bench", "gpu"], "unknown command 'gpu': did you mean cpu?"),
        (["train", "gtp", "--out", "r"], "unknown model 'gtp': did you mean gpt?"),
        (["train", "bert", "--out", "r"], "unknown model 'bert': there are: gpt, gru, lstm,"),
        (["train", "--out", "r"], "which model? there are: gpt, rnn, lstm, gru, neural-ngram, n"),
        (["train", "gpt"], "missing option '--out' (see minillm train --help)"),
        (
            ["train", "gpt", "--out", "r", "--stpes", 3],
            "no such option: --stpes; did you mean",
        ),
        (["train", "gpt", "--out", "r", "--steps", "many"], "'many' is not a valid integer"),
        (["train", "gpt", "--out", "r", "--steps"], "option '--steps' requires an argument"),
        (["train", "gpt", "--out", "r", "extra"], "got unexpected extra argument (extra)"),
        (["train", "gpt", "--out", "r", "--optimizer", "adma"], "unknown optimizer 'adma': did yo"),
        (
            ["train", "gpt", "--out", "r", "--tokenizer", "bpp"],
            "unknown tokenizer 'bpp', and no s",
        ),
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
        (MemoryError(), 2, "minillm: not enough memory; a smaller --batch, --block, --order or"),
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

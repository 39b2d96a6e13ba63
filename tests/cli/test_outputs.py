"""What cannot be written is refused before the work, and what was begun is cleared away."""

import os
from pathlib import Path

import pytest

from minillm.cli.outputs import check_file, check_folder
from minillm.errors import UserError
from minillm.models.ngram import NGram


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "run", "--arpa", "no/x.arpa"], "cannot write no/x.arpa: No such file"),
        (["--out", "run", "--arpa", "."], "cannot write .: Is a directory"),
        (["--out", "run", "--arpa", "file/x.arpa"], "cannot write file/x.arpa: Not a directory"),
        (["--out", "file"], "cannot write file: Not a directory"),
        (["--out", "file/run"], "cannot write file/run: Not a directory"),
    ],
)
@pytest.mark.parametrize("model", ["ngram", "gpt"])
def test_nothing_is_counted_for_an_output_that_cannot_be(
    mistake, book, monkeypatch, model, options, message
):
    if model == "gpt" and "--arpa" in options:
        message = "gpt takes no --arpa"
    Path("file").write_text("a file")
    monkeypatch.setattr("minillm.cli.fitting.prepare", None)  # the text is not even read
    assert message in mistake("train", model, "--data", book, *options)
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_run_that_is_there_is_refused_before_the_text_is_read(mistake, trained, monkeypatch):
    monkeypatch.setattr("minillm.cli.fitting.prepare", None)
    error = mistake("train", "ngram", "--out", trained / "ngram")
    assert "holds a run already: choose another folder" in error


@pytest.mark.parametrize(
    ("command", "outputs"),
    [
        (["export", "run"], ["--arpa", "no/m.arpa"]),
        (["score", "a", "--ref", "b", "--metric", "bleu"], ["--json", "no/a.json"]),
        (["eval", "run"], ["--json", "no/a.json"]),
        (["tokenize", "train", "--kind", "bpe", "--data", "x"], ["--out", "no/t.json"]),
        (["tokenize", "encode", "-t", "none"], ["--out", "no/ids"]),
        (["tokenize", "decode", "-t", "none"], ["--out", "no/text"]),
        (["tokenize", "show", "-t", "none", "--text", "a"], ["--html", "no/a.html"]),
        (["tokenize", "show", "-t", "none", "--text", "a"], ["--png", "no/a.png"]),
        (["tokenize", "languages", "-t", "none"], ["--png", "no/a.png"]),
    ],
)
def test_an_output_comes_before_the_inputs(mistake, command, outputs):
    error = mistake(*command, *outputs)
    assert error == f"minillm: cannot write {outputs[1]}: {os.strerror(2)}"


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, how: False)
    for check in (check_file, check_folder):
        with pytest.raises(UserError, match=r"cannot write .*/x: Permission denied"):
            check(tmp_path / "x")
    check_file(os.devnull)
    check_file(None)


def test_pictures_are_png(mistake):
    for command in (["show", "--text", "a"], ["languages"]):
        error = mistake("tokenize", *command, "-t", "byte", "--png", "a.jpg")
        assert "a.jpg: --png writes PNG, whose name ends in .png" in error
    assert not Path("a.jpg").exists()


def test_ctrl_c_leaves_no_folder(minillm, book, monkeypatch):
    def interrupted(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(NGram, "save", interrupted)
    done = minillm("train", "ngram", "--data", book, "--out", "runs/int")
    assert (done.code, done.err) == (3, "minillm: interrupted\n")
    assert list(Path().iterdir()) == []
    Path("mine").mkdir()
    minillm("train", "ngram", "--data", book, "--out", "mine/int")
    assert [path.name for path in Path().rglob("*")] == ["mine"]

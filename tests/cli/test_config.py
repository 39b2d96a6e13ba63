import json
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, TINY_LSTM

SETTINGS = """
model = "lstm"
data = ["{book}"]
split = [0.9, 0.1, 0]
out = "run"
n-layer = 1          # dashes as in the flags
n_embd = 8           # or underscores
n_hidden = 12
block = 16
batch = 4
steps = 4
lr = 1               # a whole number is a number
min-lr = 0.5
eval_every = 2
eval_batches = 1
threads = 1
tied = false
"""


def write(text):
    Path("settings.toml").write_text(text)
    return "settings.toml"


def saved():
    return json.loads(Path("run/run.json").read_text())["settings"]


def test_settings_from_a_file(minillm, book):
    path = write(SETTINGS.format(book=book))
    done = minillm("train", "--config", path)
    assert done.code == 0
    assert "step 4/4" in done.out
    assert saved() == {
        "data": [str(book)],
        "split": [0.9, 0.1, 0.0],
        "tokenizer": "char",
        "n_layer": 1,
        "n_embd": 8,
        "n_hidden": 12,
        "block": 16,
        "batch": 4,
        "steps": 4,
        "lr": 1.0,
        "final_lr": 0.5,
        "eval_every": 2,
        "eval_batches": 1,
        "threads": 1,
        "tied": False,
    }


def test_flags_win(minillm, book):
    path = write(SETTINGS.format(book=book))
    done = minillm("train", "gru", "--steps", 6, "--config", path, "--n-hidden", 8, "--tied")
    assert done.code == 0
    assert "gru: " in done.out
    assert "step 6/6" in done.out
    assert (saved()["n_hidden"], saved()["tied"], saved()["n_embd"]) == (8, True, 8)


def test_text_may_be_one_name(minillm, book):
    path = write(f'data = "{book}"\n')
    assert minillm("train", "unigram", "--out", "run", "--config", path).code == 0
    assert saved()["data"] == [str(book)]


def test_every_command_takes_a_file(minillm, trained):
    path = write('prompt = "The "\nmax-new-tokens = 5\ngreedy = true\nstream = false\n')
    done = minillm("generate", trained / "gpt", "--config", path)
    assert (
        done.out
        == minillm("generate", trained / "gpt", "--prompt", "The ", "-n", 5, "--greedy").out
    )
    path = write('part = "validation"\n')
    assert minillm("eval", trained / "gpt", "--config", path).out == (
        minillm("eval", trained / "gpt", "--part", "validation").out
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stesp = 3", "settings.toml: unknown setting 'stesp': did you mean steps?"),
        ("zzz = 3", "settings.toml: unknown setting 'zzz': there are: accumulation, arpa,"),
        ("config = 'a'", "unknown setting 'config'"),
        ("steps = 2.5", "settings.toml: steps must be a whole number, got 2.5"),
        ("steps = '3'", "settings.toml: steps must be a whole number, got '3'"),
        ("steps = true", "settings.toml: steps must be a whole number, got True"),
        ("steps = [1, 2]", "settings.toml: steps must be a whole number, got [1, 2]"),
        ("lr = '1e-3'", "settings.toml: lr must be a number, got '1e-3'"),
        ("lr = nan", "lr must be at least 0, got nan"),
        ("tied = 1", "settings.toml: tied must be true or false, got 1"),
        ("data = 3", "settings.toml: data must be text in quotes, got 3"),
        ("data = ['a', 3]", "settings.toml: data must be text in quotes, got 3"),
        ("split = 3", "split must be three numbers like 0.8,0.1,0.1, got 3"),
        ("split = '0.5'", "fractions must be three numbers"),
        ("optimizer = 'adma'", "unknown optimizer 'adma': did you mean adam?"),
        ("lr = 1\nlr = 2", "settings.toml: not TOML: "),
        ("final-lr = 1\nmin_lr = 2", "settings.toml: 'min_lr' is given twice"),
        ("[training]\nsteps = 3", "unknown setting 'training': there are:"),
        ("steps", "settings.toml: not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(mistake, book, text, message):
    path = write(text)
    args = [] if "data" in text else ["--data", book]
    assert message in mistake("train", "lstm", "--out", "run", "--config", path, *args)
    assert not Path("run").exists()


def test_a_file_that_cannot_be_read(mistake, tmp_path):
    assert "none.toml: cannot be read: No such file" in mistake("train", "--config", "none.toml")
    assert "cannot be read: Is a directory" in mistake("train", "--config", tmp_path)
    Path("bad.toml").write_bytes(b"\xff\xfe")
    assert "bad.toml: not TOML" in mistake("train", "--config", "bad.toml")


def test_resume_holds_a_file_to_the_run(mistake, minillm, book):
    args = ["--data", book, *TINY_LSTM, *QUICK]
    assert minillm("train", "lstm", "--out", "run", *args).code == 0
    path = write("n_hidden = 99\n")
    error = mistake("train", "--resume", "--out", "run", "--config", path)
    assert "n_hidden: the run to resume has 12, not 99" in error

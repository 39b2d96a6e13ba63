import collections
import shutil

import pytest

from minillm.cli import run as run_command

Outcome = collections.namedtuple("Outcome", "code out err")

LINES = [
    "The baker counts the loaves before the sun is up.",
    "A grey cat sleeps on the warm stone of the oven.",
    "Who will carry the flour up the narrow stairs?",
    "The miller's boy does; he sings while he climbs.",
    "At noon the square is loud with carts and geese.",
    "Nobody hears the clock, and nobody minds.",
]
TINY_GPT = ["--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--block", 16, "--batch", 4]
TINY_LSTM = ["--n-layer", 1, "--n-embd", 8, "--n-hidden", 12, "--block", 16, "--batch", 4]
QUICK = ["--steps", 6, "--eval-every", 3, "--eval-batches", 2, "--threads", 1]


@pytest.fixture
def minillm(capsys, tmp_path, monkeypatch):
    """A function that runs a command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        code = run_command([str(a) for a in args])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def mistake(minillm):
    """A function that runs a command line which must end in exit code 2 and one line."""

    def run(*args):
        outcome = minillm(*args)
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("minillm: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        return outcome.err.strip()

    return run


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """A small text file."""
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text("\n".join(f"{i}. {LINES[i * i % 6]} {LINES[i % 5]}" for i in range(60)))
    return path


@pytest.fixture(scope="session")
def trained(book, tmp_path_factory):
    """Runs of a GPT, an LSTM and an n-gram model; only to be read."""
    root = tmp_path_factory.mktemp("runs")
    commands = {
        "gpt": [*TINY_GPT, *QUICK],
        "lstm": [*TINY_LSTM, *QUICK],
        "ngram": ["--order", 4],
    }
    for kind, options in commands.items():
        args = ["train", kind, "--data", book, "--out", root / kind, *options]
        assert run_command([str(a) for a in args]) == 0
    return root


@pytest.fixture
def own_gpt(trained, tmp_path):
    """A copy of the GPT's run, to be spoilt."""
    return shutil.copytree(trained / "gpt", tmp_path / "own", symlinks=True)

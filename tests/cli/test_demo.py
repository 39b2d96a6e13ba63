import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minillm.demo import contestants, report, run
from minillm.demo.contestants import CONTESTANTS, settings_of
from minillm.demo.run import Result
from minillm.errors import UserError
from minillm.training import TrainConfig
from tests.cli.conftest import LINES


def fewer_steps(contestant):
    training = {"steps": 12, "warmup": 2, "batch": 4} if contestant.training else {}
    return dataclasses.replace(contestant, short=contestant.short and training)


@pytest.fixture
def quick(monkeypatch):
    """The short demo with hardly any steps, on a small text in the place of Python's topics."""
    texts = [(f"page{i}", "\n".join(LINES[i * k % 6] for k in range(40)) + "\n") for i in range(9)]
    monkeypatch.setattr("minillm.data.corpus.topics", lambda: (texts, "pages"))
    monkeypatch.setattr(run, "CONTESTANTS", tuple(fewer_steps(c) for c in CONTESTANTS))


@pytest.fixture
def quicker(quick, monkeypatch):
    """... and without pictures, and with one model that is counted and one that is trained."""
    monkeypatch.setattr(run, "CONTESTANTS", (CONTESTANTS[1], fewer_steps(CONTESTANTS[3])))
    for name in ("draw_curves", "draw_attention"):
        monkeypatch.setattr(run, name, lambda *args: ("x.png", "no picture"))


def rows(out):
    """The table's rows: {model: (bits per byte, parameters, text)}."""
    body = out.split("what it writes\n")[1].split("\n\n")[0]
    found = re.findall(r"^([\w-]+) +(\d+\.\d+) +([\d,]+) +\d+\.\d  (.*)$", body, re.MULTILINE)
    return {name: tuple(rest) for name, *rest in found}


def test_the_demo_compares_six_models_and_keeps_what_they_left(minillm, quick):
    done = minillm("demo", "--short", "--out", "d")
    assert (done.code, done.err) == (0, "")
    table = rows(done.out)
    assert list(table) == ["uniform", "unigram", "kneser-ney", "rnn", "lstm", "gpt"]
    assert all(text.startswith("The ") for *_, text in table.values())
    best = min(table, key=lambda name: float(table[name][0]))
    assert f"Within this time {best} predicts the test text best" in done.out
    assert "test: " in done.out
    assert "\n  minillm train gpt --out runs/gpt" in done.out
    names = {"attention.png", "curves.png", "table.txt", "demo.json", *table}
    assert {path.name for path in Path("d").iterdir()} == names
    assert Path("d/table.txt").read_text() in done.out
    mark = json.loads(Path("d/demo.json").read_text())
    assert [r["name"] for r in mark["results"]] == list(table)
    assert not [name for name in os.listdir(".") if name != "d"]
    for name, (bits, *_) in table.items():
        scored = minillm("eval", f"d/{name}")
        assert f"\n{bits} bits per byte" in scored.out, scored
        assert minillm("generate", f"d/{name}", "-n", 3).code == 0


def test_same_seed_same_table_and_an_earlier_demo_is_replaced(minillm, quicker):
    first = minillm("demo", "--short", "--out", "d", "--seed", 1)
    Path("d/of-the-first").write_text("")
    again = minillm("demo", "--short", "--out", "d", "--seed", 1)
    other = minillm("demo", "--short", "--out", "d", "--seed", 2)
    assert rows(first.out) == rows(again.out) != rows(other.out)
    assert not Path("d/of-the-first").exists()
    assert os.listdir(".") == ["d"]


@pytest.mark.parametrize("mark", [None, "{", '{"format": "other"}'])
def test_a_folder_that_is_no_demos_is_refused(mistake, quicker, mark):
    Path("d").mkdir()
    Path("d/mine.txt").write_text("mine")
    if mark is not None:
        Path("d/demo.json").write_text(mark)
    error = mistake("demo", "--short", "--out", "d")
    assert "demo" in error
    assert Path("d/mine.txt").read_text() == "mine"
    assert os.listdir(".") == ["d"]


def test_an_empty_folder_is_taken(minillm, quicker):
    Path("d").mkdir()
    assert minillm("demo", "--short", "--out", "d").code == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no"), ValueError("a fault")])
def test_after_an_interruption_the_earlier_demo_is_there(minillm, quicker, monkeypatch, error):
    assert minillm("demo", "--short", "--out", "d").code == 0
    before = sorted((p, p.read_bytes()) for p in Path("d").rglob("*") if p.is_file())

    def fail(*args):
        raise error

    monkeypatch.setattr(run, "draw_curves", fail)
    assert minillm("demo", "--short", "--out", "d").code in (2, 3, 4)
    assert sorted((p, p.read_bytes()) for p in Path("d").rglob("*") if p.is_file()) == before
    assert os.listdir(".") == ["d"]


def test_a_stopped_training_stops_the_demo(minillm, quicker, monkeypatch):
    class Stopped:
        def __init__(self, *args):
            pass

        def run(self):
            return type("R", (), {"stopped": "SIGINT"})

    monkeypatch.setattr(run, "Trainer", Stopped)
    done = minillm("demo", "--short", "--out", "d")
    assert (done.code, done.err) == (3, "minillm: interrupted\n")
    assert os.listdir(".") == []


def test_what_a_killed_demo_left_is_removed_but_not_what_runs(minillm, quicker, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    Path(f".unfinished-d-{process.pid}").mkdir()
    Path(f".unfinished-d-{os.getppid()}").mkdir()
    Path(".unfinished-d-mine").mkdir()
    assert minillm("demo", "--short", "--out", "d").code == 0
    left = {"d", f".unfinished-d-{os.getppid()}", ".unfinished-d-mine"}
    assert set(os.listdir(".")) == left
    for name in left:
        shutil.rmtree(name)


@pytest.mark.parametrize("short", [True, False])
def test_the_settings_can_be_used(short):
    for contestant in CONTESTANTS:
        if contestant.training:
            config = TrainConfig(**settings_of(contestant, short=short, seed=0))
            assert config.eval_every * 2 <= config.steps
            assert config.max_seconds is not None
    whole = [c.training["max_seconds"] for c in CONTESTANTS if c.training]
    fast = [c.short["max_seconds"] for c in CONTESTANTS if c.training]
    assert sum(whole) <= 270  # with counting, scoring and drawing under five minutes
    assert sum(fast) <= 45  # ... under one


def result(name, bits, stopped="steps", text="The text"):
    return Result(name, bits, bits, 1234, 5.6, text, None, stopped)


def test_the_conclusion_follows_the_numbers():
    said = report.conclusion([result("a", 2.0), result("b", 1.5), result("c", 1.75)], short=False)
    assert said.startswith(
        "Within this time b predicts the test text best, with 1.500 bits per byte; "
        "then comes c with 1.750."
    )
    assert "clock" not in said
    assert "With more time the GPT wins" in said
    assert contestants.LONG_RUN in said
    won = report.conclusion([result("gpt", 1.5), result("b", 2.0)], short=False)
    assert "With more time the GPT gets further" in won
    said = report.conclusion([result("a", 2.0), result("b", 1.5, "time")], short=True)
    assert "Stopped by the clock before its last step: b." in said
    assert "the whole demo is: minillm demo" in said


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_of_the_table_is_wider_than_asked(width):
    lines = report.table([result("kneser-ney", 1.5, text="The " * 50)], width).splitlines()
    assert [len(line) for line in lines[1:]] == [width, width]
    assert lines[2].endswith("…")


def test_the_long_run_is_a_command_that_exists(minillm):
    from minillm.cli import cli

    _, command, *args = contestants.LONG_RUN.split()
    context = cli.commands[command].make_context("train", args)
    assert context.params["model"] == "gpt"

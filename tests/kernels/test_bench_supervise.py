"""The benchmark's process is begun anew after a row that crashes or hangs: a worker that obeys."""

import json
import sys

import pytest

from minillm_kernels.bench import run, supervise

ROWS = ["layer_norm", "rms_norm", "ladder_layer_norm"]

# Measures each row it is asked for, but does to some what the first argument says of them.
WORKER = """
import json, os, sys, time
what = json.loads(sys.argv[1])
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
results = {"format": 1, "device": "a GPU", "rows": {}}
print("rows", arguments["--rows"], flush=True)
for key in arguments["--rows"].split(","):
    if what.get(key) == "crash":
        os.abort()
    if what.get(key) == "hang":
        time.sleep(60)
    wrong = {"triton": 0.5} if what.get(key) == "wrong" else {}
    results["rows"][key] = {"work": key, "unit": "GB/s", "cases": [{"wrong": wrong}]}
    with open(arguments["--json"], "w") as file:
        json.dump(results, file)
    if what.get(key) == "lose":
        sys.exit(LOST)
sys.exit(int(bool(what)))
"""


def supervised(tmp_path, monkeypatch, what, **options):
    monkeypatch.setattr(supervise, "check_gpu", lambda: None)
    said, path = [], tmp_path / "results.json"
    source = WORKER.replace("LOST", str(supervise.LOST))
    worker = (sys.executable, "-c", source, json.dumps(what))
    failed = supervise.supervise(
        path,
        match="norm",
        report=said.append,
        worker=worker,
        warmer=None,
        **({"silence": 30} | options),
    )
    return failed, list(json.loads(path.read_text())["rows"]), said


def test_the_rows_are_those_of_the_table():
    assert [row.key for row in run.select("norm")] == ROWS
    assert [row.key for row in run.select("norm", ["rms_norm"])] == ["rms_norm"]


def test_all_is_well(tmp_path, monkeypatch):
    failed, rows, said = supervised(tmp_path, monkeypatch, {})
    assert (failed, rows) == ([], ROWS)
    assert said == [f"rows {','.join(ROWS)}"]


def test_a_wrong_row_fails_and_begins_nothing_anew(tmp_path, monkeypatch):
    failed, rows, said = supervised(tmp_path, monkeypatch, {"rms_norm": "wrong"})
    assert (failed, rows) == (["rms_norm"], ROWS)
    assert len(said) == 1


@pytest.mark.parametrize("how", ["crash", "hang"])
def test_a_row_that_costs_the_process_costs_no_other(how, tmp_path, monkeypatch):
    silence = 3 if how == "hang" else 30
    failed, rows, said = supervised(tmp_path, monkeypatch, {"rms_norm": how}, silence=silence)
    assert (failed, rows) == (["rms_norm"], ["layer_norm", "ladder_layer_norm"])
    assert said[-1] == "rows ladder_layer_norm"
    assert any("rms_norm cost its process" in line for line in said)


def test_a_row_after_which_the_gpu_is_lost_is_kept(tmp_path, monkeypatch):
    failed, rows, said = supervised(tmp_path, monkeypatch, {"layer_norm": "lose"})
    assert (failed, rows) == ([], ROWS)
    assert said[-1] == "rows rms_norm,ladder_layer_norm"


def test_the_budget_ends_it(tmp_path, monkeypatch):
    what = dict.fromkeys(ROWS, "hang")
    said = []
    monkeypatch.setattr(supervise, "check_gpu", lambda: None)
    worker = (sys.executable, "-c", WORKER.replace("LOST", "5"), json.dumps(what))
    failed = supervise.supervise(
        None, match="norm", report=said.append, worker=worker, warmer=None, silence=2, budget=1.0
    )
    assert failed == ["layer_norm"]
    assert len([line for line in said if line.startswith("rows")]) == 1

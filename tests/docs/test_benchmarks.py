"""docs/benchmarks.md shows what was recorded, no more and no less."""

import json
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS / "tools"))

import benchmarks  # noqa: E402

ROW = {"work": "a", "peer": "b", "threads": 1, "seconds": 0.002, "peer_seconds": 0.003}


def test_the_page_is_up_to_date():
    command = [sys.executable, str(DOCS / "tools" / "benchmarks.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_recording_becomes_a_table_and_what_misses_its_aim_is_bold():
    met = ROW | {"ratio": 0.667, "must": 1.0, "aim": None}
    missed = ROW | {"ratio": 1.51, "must": 1.0, "aim": 0.5, "peer_threads": 2}
    assert benchmarks.table([met, missed])[2:] == [
        "| a | b | 1 | 2 ms | 3 ms | 0.667 | 1 |  |",
        "| a | b | 1, 2 | 2 ms | 3 ms | **1.51** | 1 | 0.5 |",
    ]
    faster = ROW | {"times_faster": 1.51, "must": 2, "aim": None}
    assert "| **1.51** | 2 |" in benchmarks.table([faster])[2]


def test_a_changed_recording_is_found(tmp_path, monkeypatch, capsys):
    for name in benchmarks.ABOUT:
        text = (DOCS / "benchmarks" / f"{name}.json").read_text(encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(benchmarks, "RECORDED", tmp_path)
    assert benchmarks.main(["--check"]) == 0
    recorded = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    recorded["rows"][0]["seconds"] *= 2
    (tmp_path / "cpu.json").write_text(json.dumps(recorded), encoding="utf-8")
    assert benchmarks.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().out

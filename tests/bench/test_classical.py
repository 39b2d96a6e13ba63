import importlib
import json
import stat
from pathlib import Path

import pytest

from minillm.bench import alternate, child, classical
from minillm.errors import UserError

TINY = classical.Row(
    "BLEU, 3 pairs",
    "sacrebleu",
    "sacrebleu",
    "classical_ours_metrics:bleu",
    "classical_peers_metrics:bleu",
    1,
    5,
    {"pairs": 3},
)
OTHER = classical.Row("nothing", "a peer", "no_such_package", "x:y", "x:z", None, None)
BUILT = classical.Row("counting", "KenLM lmplz", "lmplz", "x:y", "x:z", 1, 2)


@pytest.fixture
def tiny(monkeypatch):
    """Rows that take no time; the processes are real."""
    monkeypatch.setattr(classical, "rows", lambda lmplz=None: [TINY, OTHER, BUILT])
    monkeypatch.setattr(classical, "find_lmplz", lambda named=None: None)
    quick = lambda sides, rounds, warm_up: alternate.alternate_with_peaks(  # noqa: E731
        sides, rounds, 0.001, warm_up
    )
    monkeypatch.setattr(classical, "alternate_with_peaks", quick)


def test_rows_have_times_memory_and_how_many_times_faster(tiny, tmp_path):
    lines, path = [], tmp_path / "bench.json"
    result = classical.run(path, match="bleu", rounds=2, report=lines.append)
    assert json.loads(path.read_text()) == result
    (row,) = result["rows"]
    assert row["times_faster"] == row["peer_seconds"] / row["seconds"] > 0
    assert (row["must"], row["aim"], row["rounds"]) == (1, 5, 2)
    for peak in (row["peak_bytes"], row["peer_peak_bytes"]):
        assert 10 * 2**20 < peak < 2**30
    assert sum("BLEU, 3 pairs" in line for line in lines) == 1
    assert "sacrebleu" in result["versions"]


def test_peers_that_are_missing_are_left_out_and_named(tiny):
    lines = []
    result = classical.run(match="n", rounds=1, report=lines.append)
    assert set(result["left_out"]) == {"a peer", "KenLM lmplz"}
    assert "left out: a peer (no_such_package is not installed; minillm[test] brings it)" in lines
    assert "left out: KenLM lmplz (lmplz is not on the PATH, in KENLM_BIN or named b" in lines[-1]
    assert len(lines) == 2  # and no heading of a table that is empty


@pytest.mark.parametrize(
    ("options", "message"), [({"match": "no such row"}, "no such row"), ({"rounds": 0}, "got 0")]
)
def test_mistakes_are_named(tiny, options, message):
    with pytest.raises(UserError, match=message):
        classical.run(report=lambda line: None, **options)


def test_lmplz_is_found_where_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("KENLM_BIN", raising=False)
    program = tmp_path / "lmplz"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert classical.find_lmplz() is None
    assert classical.find_lmplz(str(program)) == str(program)
    monkeypatch.setenv("KENLM_BIN", str(tmp_path))
    assert classical.find_lmplz() == str(program)
    with pytest.raises(UserError, match="no program of this name"):
        classical.find_lmplz("no/such/lmplz")


def test_every_side_exists_and_the_names_of_rows_differ():
    rows = classical.rows("lmplz")
    for row in rows:
        for side in (row.ours, row.theirs):
            module, function = side.split(":")
            path = Path(classical.__file__).with_name(f"{module}.py")
            source = path.read_text(encoding="utf-8")  # a peer's cannot be imported everywhere
            assert f"def {function}(threads" in source, side
        importlib.import_module(f"minillm.bench.{row.ours.split(':')[0]}")
        assert (row.must is None) == (row.aim is None)
    assert len({(row.work, row.peer) for row in rows}) == len(rows)


def test_a_round_of_long_work_is_one_call(tmp_path):
    module = "classical_ours_metrics:bleu"
    side = alternate.Side(module, 1, {"pairs": 3}, 0.5, 0)
    assert side.ready()["calls"] == 1
    assert side.round() > 0
    assert side.peak == pytest.approx(child.peak(), rel=10)
    side.close()


def test_times_and_sizes_are_written_for_people():
    row = {
        "work": "w", "peer": "p", "seconds": 1.5, "peer_seconds": 66.0, "times_faster": 44.0,
        "must": 80, "aim": None, "peak_bytes": 3 * 2**20, "peer_peak_bytes": None,
    }  # fmt: skip
    words = classical.line(row).split()
    assert words == ["w", "p", "1.50", "s", "66.00", "s", "44.00", "x", "80", "3", "MiB"]
    assert "2.50 ms" in classical.line(row | {"seconds": 0.0025})
    assert "25.00 us" in classical.line(row | {"seconds": 25e-6})

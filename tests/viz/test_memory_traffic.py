from types import SimpleNamespace

import numpy as np
import pytest

from minillm.viz.memory_traffic import (
    bank_accesses,
    bytes_text,
    sectors,
    traffic,
    traffic_by_rung,
    warp_accesses,
    wavefronts,
)
from minillm.viz.style import COLOURS, save

LANE = np.arange(32)


def a_report(*lines):
    keys = ("memory", "transfers", "ideal")
    return SimpleNamespace(
        lines=[SimpleNamespace(**dict(zip(keys, x, strict=True))) for x in lines]
    )


@pytest.mark.parametrize(
    ("addresses", "size", "expected"),
    [
        (LANE * 4, 4, [0, 1, 2, 3]),
        (LANE * 4 + 4, 4, [0, 1, 2, 3, 4]),  # not aligned: one more
        (LANE * 0 + 68, 4, [2]),
        (LANE * 256, 4, list(range(0, 256, 8))),
        (LANE * 16, 16, list(range(16))),
        ([30], 4, [0, 1]),  # across a border
    ],
)
def test_sectors_by_hand(addresses, size, expected):
    assert sectors(addresses, size).tolist() == expected


@pytest.mark.parametrize(
    ("words", "size", "expected"),
    [
        (LANE, 4, 1),
        (LANE * 0, 4, 1),  # one word, given to all
        (LANE * 32, 4, 32),
        (LANE * 33, 4, 1),
        (LANE * 2, 4, 2),
        (LANE * 2, 8, 2),  # 256 bytes, 128 a turn
        (LANE * 4, 16, 4),
        (LANE * 8, 16, 8),
    ],
)
def test_wavefronts_by_hand(words, size, expected):
    assert wavefronts(words * 4, size) == expected


def test_traffic_adds_up_lines_of_each_memory():
    report = a_report(("global", 33, 5), ("global", 4, 4), ("shared", 32, 1), ("shared", 2, 2))
    assert traffic(report) == {
        "global_bytes": 37 * 32,
        "global_needed": 9 * 32,
        "turns": 34,
        "turns_needed": 3,
    }


def test_an_emulators_report_is_understood():
    emulator = pytest.importorskip("minillm_kernels.emulator")
    report = emulator.Report(0, {})
    line = emulator.LineCount("x.cu", 3, "global", requests=2, transfers=64, ideal=8, bytes=256)
    report._lines[("x.cu", 3, "global")] = line
    assert traffic(report)["global_bytes"] == 2048
    assert traffic(report)["global_needed"] == 256


def test_a_warp_in_a_matrix_is_drawn_cell_by_cell(tmp_path):
    figure = warp_accesses({"column": LANE[:4] * 16 + 2, "row": 16 + LANE[:8]}, (4, 16))
    column, row = (axes.collections[0].get_array().reshape(4, 16) for axes in figure.axes)
    assert (column[:, 2] == 2).all()
    assert (np.delete(column[:, :8], 2, axis=1) == 1).all()
    assert (column[:, 8:] == 0).all()
    assert (row[1] == [2] * 8 + [0] * 8).all()
    assert figure.axes[0].get_xlabel().startswith("4 lanes, 4 sectors: 128 bytes move,\n16 of them")
    assert figure.axes[1].get_xlabel().startswith("8 lanes, 1 sector: 32 bytes move,\n32 of them")
    save(figure, tmp_path / "x.png")


def test_busy_banks_stand_out(tmp_path):
    figure = bank_accesses({"row": LANE, "column": LANE * 32 + 5, "padded": LANE * 33})
    row, column, padded = (axes.collections[0].get_array().reshape(-1, 32) for axes in figure.axes)
    assert row.shape == (32, 32)
    assert (row[0] == 1).all()
    assert (column[:, 5] == 2).all()
    assert padded.max() == 1
    assert [axes.get_xlabel().split(": ")[1] for axes in figure.axes] == [
        "1 turn",
        "32 turns",
        "1 turn",
    ]
    save(figure, tmp_path / "x.png")


def test_rungs_are_drawn_with_what_is_lost(tmp_path):
    reports = {
        "01": a_report(("global", 1000, 250)),
        "02": a_report(("global", 100, 100), ("shared", 64, 2)),
    }
    figure = traffic_by_rung(reports)
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["32 kB  (4 times the least)", "3.2 kB"]
    assert [text.get_text() for text in right.texts] == ["none", "64  (32 times the least)"]
    moved = [line.get_xdata()[0] for line in left.lines if line.get_markerfacecolor() != "white"]
    assert {8000, 32000, 3200} <= set(moved)  # an end of each line, and the filled marks
    assert left.lines[0].get_color() == COLOURS[1]
    assert left.get_xscale() == "log"
    save(figure, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.54 kB"), (2e6, "2 MB")]
)
def test_bytes_text(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sectors([]), "one a lane, got float64"),
        (lambda: sectors([-4]), "must not be negative, got -4"),
        (lambda: wavefronts([0], 5), "size must be 4, 8 or 16 bytes, got 5"),
        (lambda: warp_accesses({}, (4, 4)), "no request"),
        (lambda: warp_accesses({"a": [16]}, (4, 4)), "a: element 16 lies outside of 4 x 4"),
        (lambda: bank_accesses({"a": [0.5]}), "a must be whole numbers"),
        (lambda: traffic_by_rung({}), "nothing was counted for any kernel"),
        (lambda: traffic_by_rung({"01": a_report()}), "nothing was counted for 01"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

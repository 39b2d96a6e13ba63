import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.viz import save
from minillm.viz.style import MISSING, fonts, new_figure, printable, spread


@given(
    positions=st.lists(st.floats(-5, 5), max_size=8),
    gap=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_spread_keeps_the_gap_and_the_order(positions, gap):
    moved = spread(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert np.all(np.diff(moved[order]) >= gap - 1e-9)
    assert np.mean(moved) == pytest.approx(np.mean(positions)) if positions else moved.size == 0


def test_spread_moves_no_label_that_has_room():
    np.testing.assert_allclose(spread([3.0, 0.0, 1.0], 0.5), [3, 0, 1])
    np.testing.assert_allclose(spread([1.0, 1.0, 9.0], 0.5), [0.75, 1.25, 9])


def test_labels_on_an_axis_are_visible():
    assert printable(" a\n\t") == "␣a⏎⇥"
    assert printable("$x$") == r"\$x\$"
    assert printable("\x00\u200b") == ""
    assert printable("\U0010fffd") == MISSING
    assert fonts()[0] == "DejaVu Sans"


def test_save_writes_a_png_whole_or_not_at_all(tmp_path):
    figure = new_figure(2, 1)
    save(figure, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert b"IEND" in data[-12:]
    with pytest.raises(UserError, match=r"cannot write .*No such file"):
        save(figure, tmp_path / "missing" / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_pictures_leave_pyplot_and_its_global_state_alone():
    code = "import sys, minillm.viz; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

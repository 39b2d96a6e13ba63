import numpy as np
import pytest
from matplotlib.text import Text

from minillm.viz.roofline import GPUS, Machine, attainable, roofline
from minillm.viz.style import save

MACHINE = Machine("mine", {"plain": 100e9, "wide": 1e12}, {"memory": 10e9})


def test_the_roof_is_the_lower_of_two_lines():
    assert attainable(1.0, MACHINE) == 10e9
    np.testing.assert_array_equal(attainable([0.1, 10, 1e3], MACHINE), [1e9, 100e9, 100e9])


def test_points_lie_where_they_belong(tmp_path):
    points = {"adding": (0.25, None), "product": (50.0, None), "measured": (2.0, 3e9)}
    figure = roofline(MACHINE, points)
    (axes,) = figure.axes
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    at = [(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in marks]
    assert at == [(0.25, 2.5e9), (50.0, 100e9), (2.0, 3e9)]
    hollow = [mark.get_markerfacecolor() == "white" for mark in marks]
    assert hollow == [True, True, False]
    texts = {text.get_text() for text in axes.texts}
    assert {"plain  100 GFLOP/s", "wide  1 TFLOP/s", "memory  10 GB/s"} <= texts
    assert {"adding: ≤ 2.5 GFLOP/s", "measured: 3 GFLOP/s"} <= texts
    low, high = axes.get_xlim()
    assert low < 0.25
    assert high > 100  # the ridge of the widest rate
    save(figure, tmp_path / "x.png")


def test_no_name_covers_another_or_leaves_the_picture():
    crowd = {f"kernel {i}": (x, None) for i, x in enumerate((10, 11, 30, 32, 500, 600))}
    figure = roofline(MACHINE, crowd)
    names = [t for t in figure.axes[0].texts if t.get_text() and not t.get_rotation()]
    boxes = [Text.get_window_extent(text) for text in names]
    assert len(boxes) == len(crowd) + len(MACHINE.rates)
    for i, a in enumerate(boxes):
        assert figure.bbox.x0 <= a.x0 < a.x1 <= figure.bbox.x1
        assert not any(a.overlaps(b) for b in boxes[:i])


@pytest.mark.parametrize("at", [(0.3, 3e9), (1.0, 10e9), (3.0, 30e9)])
def test_a_slopes_name_keeps_clear_of_points_and_of_the_level(at):
    figure = roofline(MACHINE, {"point": at})
    (axes,) = figure.axes
    figure.draw_without_rendering()
    (name,) = (text for text in axes.texts if text.get_text().startswith("memory"))
    box = name.get_window_extent()
    x, y = axes.transData.transform(at)
    end = axes.transData.transform((100.0, 1e12))  # the bend
    assert axes.bbox.x0 < box.x0 < box.x1 < end[0]
    assert box.y1 < end[1]
    # the name rises at 45 degrees: along the slope it lies before the point or beyond it
    assert x < box.x0 or x > box.x1 or y < box.y0 or y > box.y1


@pytest.mark.parametrize("machine", GPUS.values(), ids=list(GPUS))
def test_published_machines(machine):
    """Tensor cores above plain fp32, a ridge between 1 and 100 operations a byte; whose figures."""
    plain, tensor = machine.rates.values()
    (bandwidth,) = machine.bandwidths.values()
    assert plain < tensor
    assert 1 < plain / bandwidth < 100
    assert machine.name.endswith(" GB")  # of one variant: its memory decides the bandwidth
    assert "white paper" in machine.source
    roofline(machine)


@pytest.mark.parametrize(
    ("machine", "points", "message"),
    [
        (Machine("empty", {}, {"m": 1.0}), {}, "empty needs at least one rate"),
        (Machine("none", {"r": 0.0}, {"m": 1.0}), {}, "above zero: r"),
        (MACHINE, {"p": (1.0, 0.0)}, "above zero: p"),
        (MACHINE, {"p": (-1.0, None)}, "above zero: p"),
    ],
)
def test_what_cannot_be_drawn_is_refused(machine, points, message):
    with pytest.raises(ValueError, match=message):
        roofline(machine, points)

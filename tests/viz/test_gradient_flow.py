import numpy as np
import pytest

from minillm.viz import save
from minillm.viz.gradient_flow import gradient_flow
from tests.viz.test_curves import assert_nothing_overlaps, texts

FALLING = 10.0 ** -np.arange(6)


def drawn(figure, marker):
    """The points of the first line in `figure` with this marker."""
    return next(
        line.get_xydata()
        for line in figure.axes[0].lines
        if line.get_marker() == marker and len(line.get_xydata())
    )


def ticks(figure):
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, axes.get_yticks(), strict=True))


def test_the_norms_stand_where_the_axis_says(tmp_path):
    figure = gradient_flow({"RNN": FALLING, "LSTM": FALLING[:4] ** 0.25}, along="time", title="t")
    (axes,) = figure.axes
    rnn, lstm = (line.get_xydata() for line in axes.lines if len(line.get_xydata()))
    np.testing.assert_allclose(rnn, np.c_[np.arange(6), -np.arange(6)])
    np.testing.assert_allclose(lstm, np.c_[np.arange(4), -np.arange(4) / 4])
    assert {name: round(place) for name, place in ticks(figure).items()} == {
        f"$10^{{{p}}}$": p for p in range(-5, 1)
    }
    assert axes.get_xlabel() == "steps back in time"
    assert texts(figure) == ["RNN", "LSTM"]
    assert_nothing_overlaps(figure, tmp_path)
    assert gradient_flow({"a": FALLING}).axes[0].lines[0].get_xdata()[0] == 1  # layer 1


def test_a_narrow_range_has_ticks_between_the_powers():
    found = ticks(gradient_flow({"a": [0.9, 1.7, 4.1, 6.5]}))
    assert found == pytest.approx({"1": 0, "2": np.log10(2), "5": np.log10(5)})


def test_zeros_infinities_and_nan_are_shown_and_break_the_line(tmp_path):
    values = [1.0, 0.1, 0.0, np.inf, 0.1, np.nan]
    figure = gradient_flow({"a": values, "b": [1.0, 0.0, 0.0]})
    line = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(np.isnan(line[:, 1]), [0, 0, 1, 1, 0, 1])
    found = ticks(figure)
    assert min(found, key=found.get) == "0"
    assert max(found, key=found.get) == "∞ or NaN"
    np.testing.assert_allclose(drawn(figure, "x"), [[4, found["∞ or NaN"]], [6, found["∞ or NaN"]]])
    assert_nothing_overlaps(figure, tmp_path)
    assert "0" not in ticks(gradient_flow({"a": FALLING}))


@pytest.mark.parametrize(
    "values",
    [
        [5e-324, 1.7e308],  # float64's whole range
        [0.0, 0.0],
        [np.nan],
        [np.inf, np.inf, 0.0],
        [3.0],
        np.full(500, 2.0),
        np.geomspace(1, 1e-44, 90).astype(np.float32),
    ],
)
@pytest.mark.parametrize("along", ["layer", "time"])
def test_whatever_a_float_can_be_draws(values, along, tmp_path):
    figure = gradient_flow({"a": values}, along=along)
    low, high = figure.axes[0].get_ylim()
    assert np.isfinite(low)
    assert low < high
    save(figure, tmp_path / "x.png")


def test_where_float32_ends_is_marked_only_in_sight():
    small = np.geomspace(1, 1e-44, 90)
    assert texts(gradient_flow({"a": small.astype(np.float32)})) == [
        "smallest normal float32",
        "a",
    ]
    assert texts(gradient_flow({"a": small})) == ["a"]
    assert texts(gradient_flow({"a": FALLING.astype(np.float32)})) == ["a"]


def test_what_is_no_list_of_norms_is_refused():
    with pytest.raises(ValueError, match="at least one series"):
        gradient_flow({})
    with pytest.raises(ValueError, match=r"RNN: a list of norms expected, .* \(2, 3\)"):
        gradient_flow({"RNN": np.ones((2, 3))})
    with pytest.raises(ValueError, match="RNN: a norm is never below 0, got -2"):
        gradient_flow({"RNN": [1, -2]})
    with pytest.raises(ValueError, match="along must be one of layer, time, got 'depth'"):
        gradient_flow({"RNN": [1]}, along="depth")

import numpy as np
import pytest
from matplotlib.text import Text

from minillm.viz import learning_curves, loss_curve, save
from minillm.viz.curves import _smooth
from minillm.viz.loss_by_cost import loss_by_cost
from minillm.viz.style import COLOURS

SECONDS = np.array([0.0, 1.0, 2.0, 4.0])
LOSS = np.array([5.0, 4.0, 3.5, 3.25])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def assert_nothing_overlaps(figure, tmp_path):
    """Drawn, no label lies over another or over the picture's edge."""
    save(figure, tmp_path / "x.png")
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without leaders
    for i, a in enumerate(boxes):
        assert figure.bbox.x0 <= a.x0 < a.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= a.y0 < a.y1 <= figure.bbox.y1
        for b in boxes[:i]:
            assert min(a.y1, b.y1) - max(a.y0, b.y0) <= 1 or a.x1 < b.x0 or b.x1 < a.x0


def test_curves_show_the_numbers_given(tmp_path):
    figure = learning_curves(
        {"GPT": (SECONDS, LOSS), "LSTM": (SECONDS / 2, LOSS + 0.01)},
        levels={"uniform": 6.5, "Kneser-Ney": 3.24},
        unit="bits per byte",
        title="learning",
    )
    (axes,) = figure.axes
    gpt, lstm = (line for line in axes.lines if len(line.get_xdata()) == 4)
    np.testing.assert_array_equal(gpt.get_xdata(), SECONDS)
    np.testing.assert_array_equal(gpt.get_ydata(), LOSS)
    np.testing.assert_array_equal(lstm.get_ydata(), LOSS + 0.01)
    assert gpt.get_color() == COLOURS[0] != lstm.get_color()
    assert axes.get_ylabel() == "bits per byte"
    assert axes.get_xlabel() == "training time (seconds)"
    assert axes.get_title() == "learning"
    assert texts(figure) == ["GPT  3.25", "LSTM  3.26", "uniform  6.50", "Kneser-Ney  3.24"]
    assert axes.get_xscale() == "linear"
    assert_nothing_overlaps(figure, tmp_path)


def test_time_on_a_logarithmic_axis(tmp_path):
    figure = learning_curves({"GPT": (SECONDS, LOSS)}, log_time=True)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), SECONDS[1:])
    save(figure, tmp_path / "x.png")


def test_what_the_training_cost(tmp_path):
    figure = learning_curves({"GPT": (SECONDS * 1e12, LOSS)}, against="FLOPs", log_time=True)
    assert figure.axes[0].get_xlabel() == "arithmetic of the training (FLOPs)"
    save(figure, tmp_path / "x.png")
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert {r"$10^{12}$", r"$3 \cdot 10^{12}$"} <= set(shown)
    figure = learning_curves({"GPT": (SECONDS, LOSS)}, against="tokens")
    assert figure.axes[0].get_xlabel() == "tokens read in training"
    with pytest.raises(ValueError, match="against must be one of seconds, FLOPs, tokens, got 'x'"):
        learning_curves({"GPT": (SECONDS, LOSS)}, against="x")


def test_seconds_and_arithmetic_side_by_side(tmp_path):
    runs = {
        "GPT": {"seconds": SECONDS, "FLOPs": SECONDS * 2e9, "loss": LOSS},
        "LSTM": {"seconds": SECONDS / 2, "FLOPs": SECONDS * 1e9, "loss": LOSS + 0.01},
    }
    figure = loss_by_cost(runs, counted={"Kneser-Ney": (0.1, 3.3)}, title="loss")
    left, right = figure.axes
    for axes, scale in ((left, 1), (right, 2e9)):
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), SECONDS[1:] * scale)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), LOSS[1:])
        assert axes.get_xscale() == "log"
    assert [t.get_text() for t in right.texts] == ["GPT  3.25", "LSTM  3.26", "Kneser-Ney  3.30"]
    points = [(x.get_xdata()[0], x.get_ydata()[0]) for x in left.lines if len(x.get_xdata()) == 1]
    assert (0.1, 3.3) in points
    assert left.get_ylabel() == "bits per byte"
    assert left.get_ylim() == right.get_ylim()
    save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one run"):
        loss_by_cost({})
    with pytest.raises(ValueError, match=r"GPT: a run has .* no \['FLOPs'\]"):
        loss_by_cost({"GPT": {"seconds": SECONDS, "loss": LOSS}})
    with pytest.raises(ValueError, match="GPT: as many times as losses"):
        loss_by_cost({"GPT": runs["GPT"] | {"FLOPs": SECONDS[1:]}})


def test_curves_at_the_edge(tmp_path):
    """One point, no point, a gap of NaN, levels alone: all draw."""
    nan = np.array([np.nan, 4.0])
    for curves, levels in [
        ({"a": ([1.0], [2.0])}, None),
        ({"a": ([], []), "b": ([0.0, 1.0], nan)}, None),
        ({}, {"uniform": 8.0}),
        ({f"model {i}": (SECONDS, LOSS + i / 100) for i in range(12)}, None),
    ]:
        for log_time in (False, True):
            figure = learning_curves(curves, levels=levels, log_time=log_time)
            assert_nothing_overlaps(figure, tmp_path)


def test_wrong_curves_are_refused():
    with pytest.raises(ValueError, match="at least one curve or level"):
        learning_curves({})
    with pytest.raises(ValueError, match=r"GPT: as many times as losses .* \(4,\) and \(3,\)"):
        learning_curves({"GPT": (SECONDS, LOSS[:3])})
    with pytest.raises(ValueError, match="validation: "):
        loss_curve(SECONDS, LOSS, validation=(SECONDS, LOSS[:1]))


def test_the_loss_of_a_run(tmp_path):
    steps = np.arange(200)
    loss = 3 + np.exp(-steps / 50)
    figure = loss_curve(steps, loss, validation=([0, 100, 199], [4.2, 3.1, 3.3]), title="run")
    raw, smooth, validation = figure.axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), loss)
    np.testing.assert_array_equal(validation.get_ydata(), [4.2, 3.1, 3.3])
    assert len(smooth.get_ydata()) == 200
    last = f"{smooth.get_ydata()[-1]:.2f}"
    assert texts(figure) == ["best 3.100", f"training  {last}", "validation  3.30"]
    save(figure, tmp_path / "x.png")
    save(loss_curve([], []), tmp_path / "y.png")


def test_smoothing():
    np.testing.assert_allclose(_smooth(np.full(9, 2.5), 3), 2.5)
    noisy = np.random.default_rng(0).standard_normal(4000)
    assert np.std(_smooth(noisy, 50)[500:]) < 0.15
    halved = _smooth(np.r_[np.zeros(1000), np.ones(10)], 10)
    assert halved[-1] == pytest.approx(0.5)

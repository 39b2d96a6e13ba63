import numpy as np
import pytest

from minillm.models import recurrent
from minillm.tree import map_leaves
from minillm.viz import save
from minillm.viz.gates import cell_text, gate_maps, gate_traces

IDS = np.array([3, 1, 4, 1, 5, 2, 6])


def a_model(cell, layers=2, seed=3):
    config = recurrent.RecurrentConfig(7, cell, n_embd=4, n_hidden=5, n_layer=layers)
    rng = np.random.default_rng(seed)
    params = recurrent.init(config, rng, np.float64)
    return map_leaves(lambda p: p + 0.5 * rng.standard_normal(p.shape), params), config


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_an_lstm_s_gates_by_hand():
    params, config = a_model("lstm", layers=1)
    traces = gate_traces(params, IDS, config)
    weights, h, c = params["layers"][0], np.zeros(5), np.zeros(5)
    for t, token in enumerate(IDS):
        x = params["embedding"]["weight"][token]
        a = (x @ weights["weight_x"] + h @ weights["weight_h"] + weights["bias"]).reshape(4, 5)
        i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
        c = f * c + i * g
        h = o * np.tanh(c)
        now = {"input": i, "forget": f, "candidate": g, "output": o, "cell": c, "hidden": h}
        assert traces.keys() == now.keys()
        for name, expected in now.items():
            np.testing.assert_allclose(traces[name][t], expected, rtol=1e-12, err_msg=name)


def test_a_gru_s_gates_by_hand():
    params, config = a_model("gru", layers=1)
    traces = gate_traces(params, IDS, config)
    weights, h = params["layers"][0], np.zeros(5)
    for t, token in enumerate(IDS):
        x = params["embedding"]["weight"][token]
        a = (x @ weights["weight_x"] + weights["bias"]).reshape(3, 5)
        b = (h @ weights["weight_h"] + weights["bias_h"]).reshape(3, 5)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        n = np.tanh(a[2] + r * b[2])
        h = (1 - z) * n + z * h
        for name, expected in {"reset": r, "update": z, "candidate": n, "hidden": h}.items():
            np.testing.assert_allclose(traces[name][t], expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_layer_s_hidden_state_is_the_model_s(cell):
    params, config = a_model(cell)
    (hidden, end), _ = recurrent.recurrent_hidden(params, ids=IDS[None], config=config)
    np.testing.assert_allclose(gate_traces(params, IDS, config)["hidden"], hidden[0], rtol=1e-10)
    last = (end["h"] if cell == "lstm" else end)[:, 0]
    for layer in (0, 1):
        traces = gate_traces(params, IDS, config, layer=layer)
        np.testing.assert_allclose(traces["hidden"][-1], last[layer], rtol=1e-10)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_maps_show_the_chosen_cells(cell, tmp_path):
    params, config = a_model(cell)
    traces = gate_traces(params, IDS, config)
    figure = gate_maps(traces, "a $\n你bc", {"one": 3, "two": 1}, title="gates")
    pictures = [axes for axes in figure.axes if axes.get_title("left")]
    titles = [axes.get_title("left") for axes in pictures]
    memory = ["memory, tanh(cell)"] if cell == "lstm" else ["memory, hidden state"]
    gates = ("forget", "input", "output") if cell == "lstm" else ("reset", "update")
    assert titles == [f"{name} gate" for name in gates] + memory
    for axes, name in zip(pictures[:-1], gates, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), traces[name][:, [3, 1]].T)
        assert axes.images[0].get_clim() == (0, 1)
    kept = np.tanh(traces["cell"]) if cell == "lstm" else traces["hidden"]
    np.testing.assert_array_equal(pictures[-1].images[0].get_array(), kept[:, [3, 1]].T)
    assert pictures[-1].images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in pictures[0].get_yticklabels()] == ["one", "two"]
    beneath = [label.get_text() for label in pictures[-1].get_xticklabels()]
    assert beneath[:4] == ["a", "␣", r"\$", "⏎"]
    save(figure, tmp_path / "x.png")


def test_a_text_stands_on_its_cell_s_values(tmp_path):
    text = "ab\n\n $c"
    values = np.linspace(-2, 2, len(text))
    figure = cell_text(values, text, limit=2, title="a cell")
    (image,) = figure.axes[0].images
    nan = np.nan
    expected = [
        [values[0], values[1], values[2]],
        [values[3], nan, nan],
        [values[4], values[5], values[6]],
    ]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), nan), expected)
    assert image.get_clim() == (-2, 2)
    places = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert places == {"a": (0, 0), "b": (1, 0), "⏎": (0, 1), r"\$": (1, 2), "c": (2, 2)}
    save(figure, tmp_path / "x.png")
    save(cell_text([0.5], "\n"), tmp_path / "y.png")


def test_what_does_not_fit_is_refused():
    params, config = a_model("lstm")
    traces = gate_traces(params, IDS, config)
    with pytest.raises(ValueError, match="an LSTM or a GRU has gates, got the cell 'rnn'"):
        gate_traces(params, IDS, a_model("rnn")[1])
    with pytest.raises(ValueError, match="layer must be one of 2, got 2"):
        gate_traces(params, IDS, config, layer=2)
    with pytest.raises(ValueError, match=r"ids must have shape \(T,\).*\(1, 7\)"):
        gate_traces(params, IDS[None], config)
    with pytest.raises(ValueError, match="the traces' 7 tokens, got 3"):
        gate_maps(traces, "abc", [0])
    with pytest.raises(ValueError, match="cells must be from 0 to 4, got 5"):
        gate_maps(traces, "abcdefg", [5])
    with pytest.raises(ValueError, match="at least one cell"):
        gate_maps(traces, "abcdefg", [])
    with pytest.raises(ValueError, match="at most 120 tokens can be read, got 121"):
        gate_maps({"hidden": np.zeros((121, 2))}, "x" * 121, [0])
    with pytest.raises(ValueError, match=r"the shape \(2,\), got \(3,\)"):
        cell_text(np.zeros(3), "ab")
    with pytest.raises(ValueError, match="limit must be above 0, got 0"):
        cell_text(np.zeros(2), "ab", limit=0)
    with pytest.raises(ValueError, match="at most 2400 characters can be drawn, got 2401"):
        cell_text(np.zeros(2401), "a" * 2401)

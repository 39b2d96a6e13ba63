"""What an LSTM or a GRU does while it reads: its gates and cells, step by step, beneath a text.

The idea, to colour a text by one cell's value, is Karpathy, Johnson & Fei-Fei's (2015,
arXiv:1506.02078, figure 2).
"""

import numpy as np

from minillm import backend
from minillm.ops import gru, gru_cell, lstm, lstm_cell
from minillm.viz.style import GREY, fonts, new_figure, printable

__all__ = ["cell_text", "gate_maps", "gate_traces"]

MOST_CHARACTERS = 120  # beneath which heat maps can be read
MOST_DRAWN = 2400  # characters of a coloured text
GATES = {"input", "forget", "output", "reset", "update"}  # from 0 to 1; the others from -1 to 1


def gate_traces(params, ids, config, *, layer=-1):
    """Every gate and cell of one layer while a recurrent language model reads one text.

    The layer's own cell runs, the readable one, and its cache hands over the gates.

    Parameters
    ----------
    params, config : of minillm.models.recurrent, with an LSTM or GRU
    ids : (T,) int
    layer : int, counted as a list's index

    Returns
    -------
    traces : dict of (T, K) arrays: an LSTM's "input", "forget", "output", "candidate", "cell" and
        "hidden"; a GRU's "reset", "update", "candidate" and "hidden"

    Raises
    ------
    ValueError
        for a cell without gates, a layer that is not there, or ids of another shape.
    """
    ids = np.asarray(ids)
    if config.cell not in ("lstm", "gru"):
        raise ValueError(f"an LSTM or a GRU has gates, got the cell {config.cell!r}")
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"ids must have shape (T,), T at least 1, got {ids.shape}")
    L = config.n_layer
    if not -L <= layer < L:
        raise ValueError(f"layer must be one of {L}, got {layer}")
    below, weights = params["layers"][: layer % L], params["layers"][layer]
    x = params["embedding"]["weight"][ids][None]  # (1, T, C)
    if below:
        (x, _), _ = {"lstm": lstm, "gru": gru}[config.cell](x, None, below)
    with backend("numpy"):
        steps = (_lstm_steps if config.cell == "lstm" else _gru_steps)(x, weights)
        rows = [{name: value[0] for name, value in step.items()} for step in steps]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}  # (T, K) each


def _lstm_steps(x, weights):
    zeros = np.zeros_like(x, shape=(1, len(weights["weight_h"])))
    state = {"h": zeros, "c": zeros}
    for t in range(x.shape[1]):
        state, cache = lstm_cell(x[:, t], state, weights)
        _, _, _, i, f, g, o, _, _ = cache.saved
        gates = {"input": i, "forget": f, "output": o, "candidate": g}
        yield gates | {"cell": state["c"], "hidden": state["h"]}


def _gru_steps(x, weights):
    h = np.zeros_like(x, shape=(1, len(weights["weight_h"])))
    for t in range(x.shape[1]):
        h, cache = gru_cell(x[:, t], h, weights)
        _, _, r, z, n, _, _ = cache.saved
        yield {"reset": r, "update": z, "candidate": n, "hidden": h}


def gate_maps(traces, text, cells, *, title=None):
    """Heat maps beneath a text: a picture for each gate and the memory, a row for each cell.

    Gates run from 0, white, to 1, dark. An LSTM's memory is drawn as tanh(cell), which is what its
    output gate lets through; a GRU's is its hidden state.

    Parameters
    ----------
    traces : as `gate_traces` gives them
    text : T characters, or a list of T tokens
    cells : list of int, or {name: int}
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for a text of another length than the traces, too long a text, or a cell that is not there.
    """
    T, K = traces["hidden"].shape
    if len(text) != T:
        raise ValueError(f"text must have the traces' {T} tokens, got {len(text)}")
    if T > MOST_CHARACTERS:
        raise ValueError(f"heat maps of at most {MOST_CHARACTERS} tokens can be read, got {T}")
    named = cells if isinstance(cells, dict) else {f"cell {c}": c for c in cells}
    for cell in named.values():
        if not 0 <= cell < K:
            raise ValueError(f"cells must be from 0 to {K - 1}, got {cell}")
    if not named:
        raise ValueError("cells must name at least one cell")
    maps = _maps(traces, list(named.values()))
    size = 0.145  # inches a row or character
    height = len(maps) * (len(named) * size * 1.3 + 0.34) + 0.6
    figure = new_figure(max(4.5, T * size + 2.4), height)
    grid = figure.subplots(len(maps), 1, sharex=True, squeeze=False)[:, 0]
    shown = [printable(token) for token in text]
    images = {}
    for axes, (name, values) in zip(grid, maps.items(), strict=True):
        is_gate = name.split()[0] in GATES
        low, colours = (0, "Greys") if is_gate else (-1, "PuOr")
        images[is_gate] = axes.imshow(values.T, cmap=colours, vmin=low, vmax=1, aspect="auto")
        axes.set_title(name, loc="left", fontsize=9, color=GREY, pad=3)
        axes.set_yticks(range(len(named)), named, fontsize=8)
        axes.tick_params(length=0, colors=GREY, labelbottom=False)
        axes.set_yticks(np.arange(1, len(named)) - 0.5, minor=True)
        axes.grid(axis="y", which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_color("0.8")
    top = grid[0].secondary_xaxis("top")
    for axis in (top, grid[-1]):
        axis.set_xticks(range(T), shown, family=[*fonts()], fontsize=8)
        axis.tick_params(axis="x", length=0, pad=2, colors="black")
    grid[-1].tick_params(axis="x", labelbottom=True)
    grid[0].set_title(next(iter(maps)), loc="left", fontsize=9, color=GREY, pad=16)
    labels = {True: "gate", False: "tanh(cell)" if "cell" in traces else "hidden state"}
    for is_gate, image in images.items():
        ticks = (0, 0.5, 1) if is_gate else (-1, 0, 1)
        place = [a for a in grid if a.images[0].get_cmap().name == image.get_cmap().name]
        bar = figure.colorbar(image, ax=place, ticks=ticks, pad=0.01, aspect=12 * len(place))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=7, labelcolor=GREY)
        bar.set_label(labels[is_gate], fontsize=8, color=GREY)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _maps(traces, cells):
    """{a picture's name: (T, cells)}, in the order in which a step computes them."""
    if "cell" in traces:
        maps = {f"{name} gate": traces[name] for name in ("forget", "input", "output")}
        maps["memory, tanh(cell)"] = np.tanh(traces["cell"])
    else:
        maps = {f"{name} gate": traces[name] for name in ("reset", "update")}
        maps["memory, hidden state"] = traces["hidden"]
    return {name: values[:, cells] for name, values in maps.items()}


def cell_text(values, text, *, label="tanh(cell)", limit=1.0, title=None):
    """A text, line by line, each character on the colour of one cell's value there.

    Parameters
    ----------
    values : (T,), what the cell holds after reading each character
    text : str of T characters
    label : str, what the colours tell
    limit : float, the value of the darkest colours, on both sides of 0
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for as many values as characters are not, too long a text, or a limit not above 0.
    """
    values = np.asarray(values, float)
    if values.shape != (len(text),) or not text:
        raise ValueError(f"values must have the shape ({len(text)},), got {values.shape}")
    if len(text) > MOST_DRAWN:
        raise ValueError(f"at most {MOST_DRAWN} characters can be drawn, got {len(text)}")
    if not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}")
    rows, columns = _places(text)
    n_rows, n_columns = rows[-1] + 1, columns.max() + 1
    grid = np.full((n_rows, n_columns), np.nan)
    grid[rows, columns] = values
    figure = new_figure(max(4.0, 0.098 * n_columns + 1.1), 0.17 * n_rows + (0.6 if title else 0.2))
    axes = figure.add_subplot(title=title)
    image = axes.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_axis_off()
    for character, row, column, value in zip(text, rows, columns, values, strict=True):
        shown = "⏎" if character == "\n" else printable(character)
        if character != " ":
            dark = abs(value) > 0.65 * limit
            colour = "0.6" if character == "\n" else "white" if dark else "black"
            where = {"ha": "center", "va": "center_baseline", "fontsize": 7.5}
            family = ["DejaVu Sans Mono", *fonts()]
            axes.text(column, row, shown, color=colour, family=family, **where)
    ticks = (-limit, 0, limit)
    bar = figure.colorbar(image, ax=axes, ticks=ticks, pad=0.01, aspect=12, fraction=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=GREY)
    bar.set_label(label, fontsize=8, color=GREY)
    return figure


def _places(text):
    """(T,) rows and (T,) columns of a text's characters; a newline stands at its line's end."""
    newline = np.array([c == "\n" for c in text])
    rows = np.cumsum(newline) - newline
    starts = np.r_[0, np.flatnonzero(newline) + 1]  # where each row begins
    return rows, np.arange(len(text)) - starts[rows]

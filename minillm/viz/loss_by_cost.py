"""The loss of several models against what their training cost: seconds, and arithmetic."""

import numpy as np

from minillm.viz.curves import cycle, draw_lines, label_ends, line
from minillm.viz.style import COLOURS, new_figure

__all__ = ["loss_by_cost"]


def loss_by_cost(runs, *, counted=None, unit="bits per byte", title=None):
    """Two panels over one loss axis: left against seconds, right against FLOPs, both logarithmic.

    Parameters
    ----------
    runs : {model: {"seconds": (N,), "FLOPs": (N,), "loss": (N,)}}; points at no cost are left out
    counted : {model: (seconds, loss)} or None, models that count instead of learning step by step:
        a point on the left, and on the right, where they cost nothing to speak of, a level line
    unit : str, of the loss
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if there is no run, or one lacks a cost, or as many costs as losses.
    """
    counted = dict(counted or {})
    if not runs:
        raise ValueError("loss_by_cost needs at least one run")
    for name, run in runs.items():
        if missing := {"seconds", "FLOPs", "loss"} - run.keys():
            raise ValueError(f"{name}: a run has seconds, FLOPs, loss; no {sorted(missing)}")
    figure = new_figure(10.0, 4.6)
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_ylabel(unit)
    colours = dict(zip([*runs, *counted], cycle(COLOURS), strict=False))
    for axes, cost in ((left, "seconds"), (right, "FLOPs")):
        lines = {name: line(name, (run[cost], run["loss"]), True) for name, run in runs.items()}
        levels = {}
        if cost == "seconds":
            lines |= {n: (np.array([s]), np.array([loss])) for n, (s, loss) in counted.items()}
        else:
            levels = {name: loss for name, (_, loss) in counted.items()}
        ends = draw_lines(axes, lines, levels, colours, against=cost, log=True)
    label_ends(right, [(f"{name}  {loss:.2f}", loss, colour) for name, loss, colour in ends])
    return figure

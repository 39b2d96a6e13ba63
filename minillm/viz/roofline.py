"""The roofline: how fast a computation can be on a machine, from the bytes that it moves.

Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model for multicore
architectures" (CACM 52(4)): rate <= min(peak rate, operations a byte * bytes a second).
"""

from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from matplotlib.transforms import Bbox

from minillm.viz.style import COLOURS, new_figure

__all__ = ["GPUS", "Machine", "attainable", "roofline"]


@dataclass(frozen=True)
class Machine:
    """What a machine can do at best; the first entry of each is what points are held against.

    Attributes
    ----------
    name : str
    rates : {kind of arithmetic: operations a second}
    bandwidths : {memory: bytes a second}
    source : where the figures come from
    """

    name: str
    rates: dict[str, float] = field(default_factory=dict)
    bandwidths: dict[str, float] = field(default_factory=dict)
    source: str = ""


# Peaks that NVIDIA publishes for one variant of each, dense (without 2:4 sparsity); no kernel
# reaches all of them. Others differ: an A100 of 80 GB has 2.04 TB/s, an H100 for PCIe 2 TB/s.
GPUS = {
    "T4": Machine(
        "NVIDIA T4 16 GB",
        {"fp32": 8.1e12, "fp16 tensor cores": 65e12},
        {"GDDR6": 320e9},
        "NVIDIA Turing GPU Architecture, white paper, 2018",
    ),
    "A100": Machine(
        "NVIDIA A100 SXM4 40 GB",
        {"fp32": 19.5e12, "fp16 and bf16 tensor cores": 312e12},
        {"HBM2": 1.555e12},
        "NVIDIA A100 Tensor Core GPU Architecture, white paper, 2020",
    ),
    "H100": Machine(
        "NVIDIA H100 SXM5 80 GB",
        {"fp32": 66.9e12, "fp16 and bf16 tensor cores": 989.4e12},
        {"HBM3": 3.35e12},
        "NVIDIA H100 Tensor Core GPU Architecture, white paper, 2023",
    ),
}


def attainable(intensity, machine):
    """The roof over a computation: operations a second, held against the machine's first entries.

    Equation: min(rate, intensity * bandwidth)

    Parameters
    ----------
    intensity : float or array, operations for each byte moved
    machine : Machine

    Returns
    -------
    rate : as intensity, operations a second
    """
    rate, bandwidth = (next(iter(d.values())) for d in (machine.rates, machine.bandwidths))
    return np.minimum(rate, np.asarray(intensity, float) * bandwidth)


def roofline(machine, points=None, *, span=None, title=None):
    """Draw a machine's roofs, and computations under them.

    Parameters
    ----------
    machine : Machine, every rate a level roof and every bandwidth a sloping one
    points : {name: (operations a byte, operations a second or None)}; a measured rate is a filled
        mark, None puts a hollow one where the roof is
    span : (least, most) operations a byte to show, or None to fit the points
    title : str or None, by default the machine's name

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for a machine without a rate or a bandwidth, or numbers that are not above zero.
    """
    points = dict(points or {})
    if not machine.rates or not machine.bandwidths:
        raise ValueError(f"{machine.name} needs at least one rate and one bandwidth")
    roofs = {**machine.rates, **machine.bandwidths}
    wrong = [name for name, value in roofs.items() if not value > 0]
    wrong += [n for n, p in points.items() if not all(v > 0 for v in p if v is not None)]
    if wrong:
        raise ValueError(f"rates, bandwidths and points must be above zero: {', '.join(wrong)}")
    marks = {
        name: (x, float(attainable(x, machine)) if y is None else y, y is not None)
        for name, (x, y) in points.items()
    }
    fastest, widest = max(machine.rates.values()), max(machine.bandwidths.values())
    least, most = span or _span(marks, fastest / min(machine.bandwidths.values()))
    figure = new_figure(7.4, 5.0)
    axes = figure.add_subplot()
    for name, rate in machine.rates.items():
        axes.plot([rate / widest, most], [rate, rate], color="black", linewidth=1.6)
        axes.annotate(
            f"{name}  {_rate(rate)}", (most, rate), xytext=(-2, 3), textcoords="offset points",
            ha="right", va="bottom", fontsize=9,
        )  # fmt: skip
    for name, bandwidth in machine.bandwidths.items():
        axes.plot(
            [least, fastest / bandwidth], [least * bandwidth, fastest], color="black", linewidth=1.6
        )
        text = f"{name}  {_bandwidth(bandwidth)}"
        start = _free(text, least, fastest / bandwidth, bandwidth, marks)
        axes.annotate(
            text, (start, start * bandwidth), xytext=(-2, 2),
            textcoords="offset points", rotation=45, rotation_mode="anchor", va="bottom",
            fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log", base=10)
    axes.set_yscale("log", base=10)
    lowest = min([least * min(machine.bandwidths.values()), *(y for _, y, _ in marks.values())])
    axes.set_xlim(least, most)
    axes.set_ylim(lowest / 2, fastest * 3)
    axes.set_aspect("equal")  # a decade is as wide as it is high: bandwidths rise at 45 degrees
    axes.set_xlabel("arithmetic intensity (operations a byte)")
    axes.set_ylabel("rate (operations a second)")
    axes.yaxis.set_major_formatter(lambda y, _: _rate(y))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(machine.name if title is None else title, fontsize=11)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    for (x, y, measured), colour in zip(marks.values(), cycle(COLOURS[:-1]), strict=False):
        axes.plot(
            x, y, "o", color=colour, markersize=7, markeredgewidth=1.6, zorder=3,
            markerfacecolor=colour if measured else "white",
        )  # fmt: skip
    _label(figure, axes, marks)
    return figure


def _span(marks, ridge):
    """From what is left of the points and of the ridge, to what is right of both."""
    xs = [x for x, _, _ in marks.values()] or [ridge]
    return min(*xs, ridge / 10) / 3, max(100 * max(xs), 40 * ridge)  # room for names on the right


def _free(text, least, ridge, bandwidth, marks):
    """Where along a slope its name may start: below the bend, and away from points, if it can."""
    length = 0.05 * len(text)  # decades, about
    last = max(0.15, np.log10(ridge / least) - length)
    starts = np.log10(least) + np.arange(0.15, last + 0.05, 0.05)
    points = np.log10([(x, y / bandwidth) for x, y, _ in marks.values()] or [(1e-30, 1e-30)])
    along = np.linspace(0, length, 20)
    on_slope = (starts[:, None] + along)[:, :, None, None]  # there x = y / bandwidth
    clear = np.abs(points - on_slope).max(-1).min((1, 2))
    return 10 ** starts[np.argmax(clear > 0.18) if (clear > 0.18).any() else np.argmax(clear)]


def _label(figure, axes, marks):
    """Each point's name beside it, moved down until it covers no other text and no point."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # where things are now they stay
    around = [axes.transData.transform((x, y)) for x, y, _ in marks.values()]
    taken = [Bbox([at - 6, at + 6]) for at in around]
    taken += [text.get_window_extent() for text in axes.texts if not text.get_rotation()]
    colours = dict(zip(marks, cycle(COLOURS[:-1]), strict=False))
    # from the right, where the roof is level and names meet, so that leaders do not cross
    for name, (x, y, measured) in sorted(marks.items(), key=lambda mark: -mark[1][0]):
        colour = colours[name]
        text = axes.annotate(
            f"{name}: {'' if measured else '≤ '}{_rate(y)}", (x, y), xytext=(9, -3),
            textcoords="offset points", va="top", fontsize=9, color=colour,
        )  # fmt: skip
        side, down = 9, 3
        if text.get_window_extent().x1 > figure.bbox.x1:
            side = -9
            text.set(horizontalalignment="right", position=(side, -down))
        while any(text.get_window_extent().overlaps(box) for box in taken) and down < 160:
            down += 3
            text.set_position((side, -down))
        taken.append(text.get_window_extent())
        if down > 12:
            leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 4}
            axes.annotate(
                "", (x, y), xytext=(side, -down - 2), textcoords="offset points", arrowprops=leader
            )


def _rate(value):
    return f"{_scaled(value)}FLOP/s"


def _bandwidth(value):
    return f"{_scaled(value)}B/s"


def _scaled(value):
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "

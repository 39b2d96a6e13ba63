"""Learning curves: several models against the clock, and one run against its steps."""

import math

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from minillm.viz.style import COLOURS, GREY, new_figure, spread

__all__ = ["learning_curves", "loss_curve"]

COSTS = {
    "seconds": "training time (seconds)",
    "FLOPs": "arithmetic of the training (FLOPs)",
    "tokens": "tokens read in training",
}


def learning_curves(
    curves, *, levels=None, unit="bits per byte", against="seconds", log_time=False, title=None
):
    """How the loss of several models falls with the seconds they have trained.

    Parameters
    ----------
    curves : {model: (seconds (N,), loss (N,))}
    levels : {model: loss} or None, models that do not learn step by step: level lines
    unit : str, of the loss
    against : "seconds", "FLOPs" or "tokens", what stands in the place of the seconds
    log_time : bool, them on a logarithmic axis (points at 0 are left out)
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if there is nothing to draw, or a model's seconds and losses differ in number.
    """
    if against not in COSTS:
        raise ValueError(f"against must be one of {', '.join(COSTS)}, got {against!r}")
    lines = {name: line(name, curve, log_time) for name, curve in curves.items()}
    levels = dict(levels or {})
    if not lines and not levels:
        raise ValueError("learning_curves needs at least one curve or level")
    figure = new_figure(7.2, 4.4)
    axes = figure.add_subplot(title=title, ylabel=unit)
    colours = dict(zip([*lines, *levels], cycle(COLOURS), strict=False))
    ends = draw_lines(axes, lines, levels, colours, against=against, log=log_time)
    _label_ends(axes, ends)
    return figure


def draw_lines(axes, lines, levels, colours, *, against, log):
    """The curves and levels of `learning_curves`; returns [(model, last loss, colour)]."""
    ends = []
    latest = max((float(cost[-1]) for cost, _ in lines.values() if len(cost)), default=1)
    for name, (cost, loss) in lines.items():
        colour = colours[name]
        axes.plot(cost, loss, color=colour, linewidth=1.8, zorder=3)
        if len(loss):
            dot = {"color": colour, "markersize": 4, "zorder": 4, "clip_on": False}
            axes.plot(cost[-1], loss[-1], "o", **dot)
            ends.append((name, loss[-1], colour))
            if cost[-1] < 0.98 * latest:  # lead the eye from an early end to its label
                dots = {"linestyle": (0, (1, 3)), "linewidth": 1, "zorder": 2}
                axes.plot([cost[-1], latest], [loss[-1]] * 2, color=colour, **dots)
    for name, loss in levels.items():
        axes.axhline(loss, color=colours[name], linewidth=1.3, linestyle=(0, (6, 3)), zorder=2)
        ends.append((name, loss, colours[name]))
    plain(axes)
    axes.set_xlabel(COSTS[against])
    if log:
        axes.set_xscale("log")
        _log_ticks(axes, against)
    axes.set_xlim(None if log else 0, latest)
    return ends


def loss_curve(steps, loss, *, validation=None, unit="nats per token", title=None):
    """One run: its training loss, smoothed over the noise of the batches, and its validation loss.

    Parameters
    ----------
    steps, loss : (N,)
    validation : (steps (M,), loss (M,)) or None
    unit : str, of the loss
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if steps and losses differ in number.
    """
    steps, loss = line("loss", (steps, loss), False)
    figure = new_figure(7.2, 4.0)
    axes = figure.add_subplot(title=title, xlabel="step", ylabel=unit)
    ends = []
    if len(loss):
        smooth = _smooth(loss, max(1, len(loss) // 50))
        axes.plot(steps, loss, color=COLOURS[0], alpha=0.25, linewidth=0.8, zorder=2)
        axes.plot(steps, smooth, color=COLOURS[0], linewidth=1.8, zorder=3)
        ends.append(("training", smooth[-1], COLOURS[0]))
    if validation is not None:
        at, values = line("validation", validation, False)
        axes.plot(
            at,
            values,
            "o-",
            color=COLOURS[1],
            linewidth=1.8,
            markersize=3.5,
            zorder=4,
            clip_on=False,
        )
        if len(values):
            ends.append(("validation", values[-1], COLOURS[1]))
            best = int(np.argmin(values))
            axes.annotate(
                f"best {values[best]:.3f}",
                (at[best], values[best]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                color=COLOURS[1],
                fontsize=9,
            )
    plain(axes)
    axes.margins(x=0, y=0.1)
    _label_ends(axes, ends)
    return figure


def line(name, curve, log_time):
    """Two float arrays of equal length, points that no axis can show left out."""
    x, y = (np.asarray(values, float) for values in curve)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{name}: as many times as losses expected, got {x.shape} and {y.shape}")
    shown = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log_time))
    return x[shown], y[shown]


def cycle(colours):
    while True:
        yield from colours


def _log_ticks(axes, against):
    """Ticks that have room: powers of ten, and 3 times those where there are few of them."""
    low, high = axes.get_xlim()
    few = math.log10(high / low) < 2.5
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter("{x:g}" if against == "seconds" else FuncFormatter(_power))


def _power(x, _):
    """A number with one digit, such as 3 x 10^11, as mathematics."""
    exponent = math.floor(math.log10(x) + 1e-9)
    digit = round(x / 10**exponent)
    times = "" if digit == 1 else rf"{digit} \cdot "
    return rf"${times}10^{{{exponent}}}$"


def plain(axes):
    """Horizontal grid lines only, and what is not data in grey."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize=9)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)


def _label_ends(axes, ends):
    """Each line's name and last value at the right edge."""
    digits = 2 if max((abs(value) for _, value, _ in ends), default=0) < 100 else 0
    label_ends(axes, [(f"{name}  {value:.{digits}f}", value, c) for name, value, c in ends])


def label_ends(axes, ends):
    """Texts beside the right edge of a linear axis, none over another.

    ends : list of (text, y in the data's units, colour)
    """
    low, high = axes.get_ylim()
    size = 9
    height = axes.figure.get_figheight() * 72 * 0.8  # points, about the axes' share
    gap = 1.25 * size / height
    wanted = [(value - low) / (high - low) for _, value, _ in ends]
    for (text, value, colour), y in zip(ends, spread(wanted, gap), strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)}
        axes.annotate(
            text,
            (1, (value - low) / (high - low)),
            xycoords="axes fraction",
            xytext=(1.025, y),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontsize=size,
            annotation_clip=False,
            arrowprops=leader | {"shrinkA": 1, "shrinkB": 0},
        )


def _smooth(values, half_life):
    """An exponential mean, its start corrected as Adam's is; `half_life` in points."""
    keep = math.exp(-math.log(2) / half_life)
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(mean / weight)
    return np.array(out)

"""Learning curves: several models against the clock, and one run against its steps."""

import math

import numpy as np

from minillm.viz.style import COLOURS, GREY, new_figure, spread

__all__ = ["learning_curves", "loss_curve"]


def learning_curves(curves, *, levels=None, unit="bits per byte", log_time=False, title=None):
    """How the loss of several models falls with the seconds they have trained.

    Parameters
    ----------
    curves : {model: (seconds (N,), loss (N,))}
    levels : {model: loss} or None, models that do not learn step by step: level lines
    unit : str, of the loss
    log_time : bool, seconds on a logarithmic axis (points at 0 s are left out)
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if there is nothing to draw, or a model's seconds and losses differ in number.
    """
    lines = {name: _line(name, curve, log_time) for name, curve in curves.items()}
    levels = dict(levels or {})
    if not lines and not levels:
        raise ValueError("learning_curves needs at least one curve or level")
    figure = new_figure(7.2, 4.4)
    axes = figure.add_subplot(title=title, xlabel="training time (seconds)", ylabel=unit)
    ends = []  # (name, loss at the right end, colour)
    colours = dict(zip([*lines, *levels], _cycle(COLOURS), strict=False))
    latest = max((float(seconds[-1]) for seconds, _ in lines.values() if len(seconds)), default=1)
    for name, (seconds, loss) in lines.items():
        axes.plot(seconds, loss, color=colours[name], linewidth=1.8, zorder=3)
        if len(loss):
            axes.plot(
                seconds[-1],
                loss[-1],
                "o",
                color=colours[name],
                markersize=4,
                zorder=4,
                clip_on=False,
            )
            ends.append((name, loss[-1], colours[name]))
            if seconds[-1] < 0.98 * latest:  # lead the eye from an early end to its label
                dots = {"linestyle": (0, (1, 3)), "linewidth": 1, "zorder": 2}
                axes.plot([seconds[-1], latest], [loss[-1]] * 2, color=colours[name], **dots)
    for name, loss in levels.items():
        axes.axhline(loss, color=colours[name], linewidth=1.3, linestyle=(0, (6, 3)), zorder=2)
        ends.append((name, loss, colours[name]))
    _plain(axes)
    if log_time:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(None if log_time else 0, latest)
    _label_ends(axes, ends)
    return figure


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
    steps, loss = _line("loss", (steps, loss), False)
    figure = new_figure(7.2, 4.0)
    axes = figure.add_subplot(title=title, xlabel="step", ylabel=unit)
    ends = []
    if len(loss):
        smooth = _smooth(loss, max(1, len(loss) // 50))
        axes.plot(steps, loss, color=COLOURS[0], alpha=0.25, linewidth=0.8, zorder=2)
        axes.plot(steps, smooth, color=COLOURS[0], linewidth=1.8, zorder=3)
        ends.append(("training", smooth[-1], COLOURS[0]))
    if validation is not None:
        at, values = _line("validation", validation, False)
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
    _plain(axes)
    axes.margins(x=0, y=0.1)
    _label_ends(axes, ends)
    return figure


def _line(name, curve, log_time):
    """Two float arrays of equal length, points that no axis can show left out."""
    x, y = (np.asarray(values, float) for values in curve)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{name}: as many times as losses expected, got {x.shape} and {y.shape}")
    shown = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log_time))
    return x[shown], y[shown]


def _cycle(colours):
    while True:
        yield from colours


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelsize=9)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)


def _label_ends(axes, ends):
    """Each line's name and last value at the right edge, in its colour, none over another."""
    if not ends:
        return
    low, high = axes.get_ylim()
    size = 9
    height = axes.figure.get_figheight() * 72 * 0.8  # points, about the axes' share
    gap = 1.25 * size / height
    wanted = [(value - low) / (high - low) for _, value, _ in ends]
    digits = 2 if max(abs(value) for _, value, _ in ends) < 100 else 0
    for (name, value, colour), y in zip(ends, spread(wanted, gap), strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)}
        axes.annotate(
            f"{name}  {value:.{digits}f}",
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

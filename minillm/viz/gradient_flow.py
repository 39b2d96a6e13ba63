"""How large the gradient is on its way back: by layer, or by steps back in time."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from minillm.viz.curves import label_ends, plain
from minillm.viz.style import COLOURS, GREY, new_figure

__all__ = ["gradient_flow"]

ALONG = {"layer": ("layer, from the input on", 1), "time": ("steps back in time", 0)}
BAND = 0.09  # the share of the axis that a band for 0, or for what is not finite, takes
DOTTED = 40  # points; more would hide the line


def gradient_flow(norms, *, along="layer", title=None):
    """The norms of gradients, on a logarithmic axis.

    What such an axis cannot show is not left out: a norm of exactly 0 is an open circle in a band
    of its own below, an infinity or NaN a cross in one above, and the line has a gap there. For
    norms in float32, dotted lines tell where the range of normal numbers ends, if that is in sight:
    below, a number loses digits before it becomes 0 (IEEE 754).

    Parameters
    ----------
    norms : {series: (N,) floats, none below 0}; N may differ from series to series
    along : "layer", the first norm is layer 1's; or "time", it is that of 0 steps back
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if there is nothing to draw, or something that is no list of norms.
    """
    if along not in ALONG:
        raise ValueError(f"along must be one of {', '.join(ALONG)}, got {along!r}")
    if not norms:
        raise ValueError("gradient_flow needs at least one series of norms")
    series = {name: _checked(name, values) for name, values in norms.items()}
    xlabel, first = ALONG[along]
    figure = new_figure(7.2, 4.0)
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel="norm of the gradient")
    plain(axes)
    low, high, zero, broken = _limits(axes, series)
    ends = []
    for index, (name, values) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        x, y = first + np.arange(len(values)), _exponent(values)
        style = "o-" if len(values) <= DOTTED else "-"
        axes.plot(x, y, style, color=colour, linewidth=1.8, markersize=3.5, zorder=3)
        is_zero, is_broken = values == 0, ~np.isfinite(values)
        axes.plot(
            x[is_zero],
            np.full(is_zero.sum(), zero),
            "o",
            mfc="white",
            mec=colour,
            ms=4.5,
            clip_on=False,
        )
        axes.plot(
            x[is_broken], np.full(is_broken.sum(), broken), "x", color=colour, ms=5, clip_on=False
        )
        last = zero if is_zero[-1] else broken if is_broken[-1] else y[-1]
        ends.append((name, last, colour))
    longest = max(map(len, series.values()))
    margin = 0.02 * max(longest - 1, 1) if longest <= DOTTED else 0
    axes.set_xlim(first - margin, first + max(longest - 1, 1) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _float32_limits(axes, series, low, high)
    label_ends(axes, ends)
    return figure


def _checked(name, values):
    given = np.asarray(values)
    values = given if given.dtype.kind == "f" else given.astype(float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name}: a list of norms expected, got an array of shape {values.shape}")
    if np.any(values < 0):
        raise ValueError(f"{name}: a norm is never below 0, got {values.min():g}")
    return values


def _exponent(values):
    """log10, NaN where there is none: the axis itself is linear, so that no limit over- or
    underflows."""
    values = values.astype(float)
    shown = np.isfinite(values) & (values > 0)
    return np.log10(values, where=shown, out=np.full(len(values), np.nan))


def _limits(axes, series):
    """Set the vertical axis; (lowest, highest exponent, the bands' middles for 0 and the rest)."""
    exponents = np.concatenate([_exponent(values) for values in series.values()])
    exponents = exponents[np.isfinite(exponents)]
    every = np.concatenate([values.astype(float) for values in series.values()])
    low, high = (exponents.min(), exponents.max()) if len(exponents) else (-1.0, 1.0)
    room = max(0.06 * (high - low), 0.15)
    low, high = low - room, high + room
    band = BAND * (high - low)
    bottom, top, (places, names) = low, high, _ticks(low, high)
    if np.any(every == 0):
        bottom = low - band
        axes.axhspan(bottom, low, color="0.93", linewidth=0, zorder=1)
        places, names = [low - band / 2, *places], ["0", *names]
    if not np.all(np.isfinite(every)):
        top = high + band
        axes.axhspan(high, top, color="0.93", linewidth=0, zorder=1)
        found = [("∞", np.any(np.isinf(every))), ("NaN", np.any(np.isnan(every)))]
        places = [*places, high + band / 2]
        names = [*names, " or ".join(name for name, there in found if there)]
    axes.set_yticks(places, names)
    axes.set_ylim(bottom, top)
    return low, high, low - band / 2, high + band / 2


def _ticks(low, high):
    """(exponents, labels): whole powers of ten, or 1, 2, 5 of each where there are few of those."""
    if high - low > 2.5:
        powers = MaxNLocator(7, integer=True, steps=[1, 2, 3, 5, 10]).tick_values(low, high)
        powers = [round(p) for p in powers if low <= p <= high]
        return powers, [f"$10^{{{p}}}$" for p in powers]
    values = [f * 10.0**p for p in range(int(low) - 2, int(high) + 3) for f in (1, 2, 5)]
    values = [v for v in values if low <= np.log10(v) <= high]
    return list(np.log10(values)), [f"{v:g}" for v in values]


def _float32_limits(axes, series, low, high):
    if not any(values.dtype == np.float32 for values in series.values()):
        return
    info = np.finfo(np.float32)
    for value, name in ((info.tiny, "smallest normal float32"), (info.max, "largest float32")):
        place = np.log10(float(value))
        if low < place < high:
            axes.axhline(place, color=GREY, linewidth=0.9, linestyle=(0, (1, 3)), zorder=1)
            axes.annotate(
                name,
                (0, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 2),
                textcoords="offset points",
                color=GREY,
                fontsize=8,
            )

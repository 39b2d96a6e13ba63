"""Pictures of how an n-gram model comes to a probability, the terms of backoff_path.py drawn."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch

from minillm.errors import UserError
from minillm.models.ngram import NGram
from minillm.viz.attention import token_names
from minillm.viz.backoff_path import Rung, back_off_path
from minillm.viz.style import GREY, fonts, new_figure

__all__ = ["Rung", "back_off_figure", "back_off_path", "back_off_profile"]

UNIFORM, FAINT = "#c9c9c9", "#a8a8a8"


def back_off_figure(model, context, token, *, counts=None, title=None):
    """A context and a token, drawn as the way down from the longest context.

    Left, a line for each length: its context (filled where it was seen), what was counted after it,
    and what it gives; between the lines, what the shorter length is multiplied by. Right, the share
    of the final p that comes from each length.

    Parameters
    ----------
    model, context, token, counts : see `back_off_path`
    title : str or None, None: the probability and its bits

    Returns
    -------
    figure : matplotlib Figure
    """
    path = back_off_path(model, context, token, counts=counts)
    colours = _colours(model.config.order)
    p = sum(rung.weight * rung.own for rung in path)
    names = {i: _name(model, i) for rung in path for i in (*rung.context, token)}
    figure = new_figure(9, 1.0 + 0.62 * len(path))
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1), sharey=True)
    wide = max(8, 1.7 * sum(max(1, 0.55 * len(names[i])) for i in path[0].context) + 1)
    left.set(xlim=(0, wide + 17), ylim=(len(path) - 0.45, -0.6))
    left.set_axis_off()
    reached = True  # whether the shorter lengths are asked at all
    for row, rung in enumerate(path):
        _contexts(left, row, rung, names, wide, colours[rung.length], reached)
        text, style = _counted(rung, names[token]), {"va": "center", "family": fonts()}
        faint = GREY if reached and rung.seen else FAINT
        left.text(wide + 1, row, text, fontsize=8.5, color=faint, **style)
        if reached:
            gives = f"{rung.own:.3g}" if rung.own else "nothing"
            bold = {"weight": "bold"} if rung.own else {"color": GREY}
            left.text(wide + 16.5, row, gives, fontsize=9.5, ha="right", **bold, **style)
        if reached and rung.length:
            _pass_on(left, row, rung, wide)
        reached = reached and rung.passed > 0
    left.text(wide + 16.5, -0.5, "gives", fontsize=8, ha="right", color=GREY)
    shares = [100 * rung.weight * rung.own / p if p else 0.0 for rung in path]
    right.barh(range(len(path)), shares, 0.5, color=[colours[rung.length] for rung in path])
    for row, share in enumerate(shares):
        label = f"{share:.0f} %" if share >= 0.95 or not share else f"{share:.1g} %"
        label = "< 0.01 %" if 0 < share < 0.01 else label
        right.text(share + 2, row, label, va="center", fontsize=8.5, color=GREY)
    right.set(xlim=(0, 125), xticks=(0, 50, 100), xlabel="share of p (%)")
    right.tick_params(left=False, labelsize=8, colors=GREY)
    right.spines[["top", "right", "left"]].set_visible(False)
    right.xaxis.label.set(color=GREY, fontsize=9)
    figure.suptitle(title or _heading(model, path, names, token, p), fontsize=11, family=fonts())
    return figure


def _contexts(axes, row, rung, names, right, colour, reached):
    """The context's tokens as boxes that end at `right`; of the uniform distribution, its name."""
    style = {"va": "center", "ha": "center", "fontsize": 9.5, "family": fonts()}
    words = [names[i] for i in rung.context]
    if not words:
        text = "any token, 1 / V" if rung.length == 0 else "no context"
        style |= {"ha": "right", "fontsize": 9, "color": GREY if reached else FAINT}
        axes.text(right - 0.3, row, text, **style)
        return
    for word in reversed(words):
        wide = 1.7 * max(1, 0.55 * len(word))
        look = {"facecolor": colour, "edgecolor": colour, "alpha": 0.35 if reached else 0.12}
        if not rung.seen:
            look = {"facecolor": "none", "edgecolor": FAINT, "linestyle": "--"}
        box = "round,pad=0,rounding_size=0.25"
        place = (right - wide + 0.1, row - 0.26)
        axes.add_patch(FancyBboxPatch(place, wide - 0.2, 0.52, boxstyle=box, **look))
        ink = "black" if rung.seen and reached else FAINT
        axes.text(right - wide / 2, row, word, color=ink, **style)
        right -= wide


def _counted(rung, name):
    if rung.length == 0:
        return f"V = {rung.followers:,}"
    if not rung.seen:
        return "never seen"
    many = f"{rung.followers:,} different token{'s' * (rung.followers != 1)} after it"
    if rung.total is None:
        return many
    unit = "places" if rung.places else "times"
    return f"{name} in {rung.count:,} of {rung.total:,} {unit}\n{many}"


def _pass_on(axes, row, rung, wide):
    """The arrow to the next line, with its factor."""
    x, style = wide + 14.2, {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.9}
    if rung.passed > 0:
        axes.annotate("", (x, row + 0.8), (x, row + 0.22), arrowprops=style)
        axes.text(x - 0.3, row + 0.5, f"× {rung.passed:.3g}", fontsize=8, color=GREY, ha="right")
    else:
        axes.text(x, row + 0.55, "stops here", fontsize=8, color=GREY, ha="center")


def _heading(model, path, names, token, p):
    context = "".join(names[i] for i in path[0].context)
    what = "p" if model.is_distribution else "score"
    bits = f", {-np.log2(p):.2f} bits" if p and model.is_distribution else ""
    after = f" after {context}" if context else ""
    return f"{model.config.smoothing}: {what}({names[token]}{after}) = {p:.3g}{bits}"


def back_off_profile(model, text, *, title=None):
    """A text token by token: the bits each one costs, and which lengths its p comes from.

    Parameters
    ----------
    model : NGram that is a distribution
    text : str, as at a document's start
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    UserError
        for a model that gives scores, or a text without a token.
    """
    ids = model.tokenizer.encode(text)
    if not len(ids):
        raise UserError("a back-off profile needs a text of at least one token")
    if isinstance(model, NGram) and not model.is_distribution:
        raise UserError(f"{model.config.smoothing} gives scores, not a distribution")
    before = [model.tokenizer.end_id, *ids.tolist()]
    paths = [back_off_path(model, before[: i + 1], token) for i, token in enumerate(ids)]
    parts = np.zeros((model.config.order + 1, len(ids)))
    for i, path in enumerate(paths):
        for rung in path:
            parts[rung.length, i] = rung.weight * rung.own
    p = parts.sum(0)  # (N,)
    with np.errstate(divide="ignore"):
        bits = -np.log2(p)  # (N,)
    shares = 100 * np.divide(parts, p, out=np.zeros_like(parts), where=p > 0)
    figure = new_figure(min(14, max(6, 1.8 + 0.19 * len(ids))), 4.2)
    top, bottom = figure.subplots(2, 1, height_ratios=(1, 1.3), sharex=True)
    place, colours = np.arange(len(ids)), _colours(model.config.order)
    top.bar(place, np.where(np.isfinite(bits), bits, 0), 0.85, color=GREY)
    for infinite in np.flatnonzero(np.isinf(bits)).tolist():
        top.text(infinite, 0, "∞", ha="center", va="bottom")
    top.set_ylabel("bits")
    floor = np.zeros(len(ids))
    for length in range(model.config.order, -1, -1):
        name = f"{length} token{'s' * (length != 1)}" if length else "uniform"
        bottom.bar(place, shares[length], 0.85, floor, color=colours[length], label=name)
        floor += shares[length]
    bottom.set(ylabel="share of p (%)", ylim=(0, 100))
    names = token_names(model.tokenizer, ids)
    turn = 90 if max(map(len, names)) > 2 else 0
    bottom.set_xticks(place, names, fontsize=9, family=fonts(), rotation=turn)
    bottom.set_xlim(-0.6, len(ids) - 0.4)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", labelsize=8, colors=GREY)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.label.set(color=GREY, fontsize=9)
    heading = {"title": "n-gram of", "fontsize": 8, "title_fontsize": 8, "frameon": False}
    bottom.legend(loc="center left", bbox_to_anchor=(1, 0.8), **heading)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _colours(order):
    """A colour for each length from 0: grey, then darker with every token."""
    shades = colormaps["viridis"](np.linspace(0.92, 0.1, max(order, 2)))
    return [UNIFORM, *(to_hex(shade) for shade in shades)]


def _name(model, i):
    return token_names(model.tokenizer, np.array([i]))[0]

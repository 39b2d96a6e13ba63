"""Words on a map: their vectors seen from the side on which they spread most.

The two directions are the first principal components (Pearson 1901), which the singular value
decomposition gives: of centred rows X = U S V^T the best plane is that of V's first two columns
(Eckart & Young 1936), and U S are the places on it. What lies in the other directions is not seen.

Left out: maps that bend, such as t-SNE, which keep neighbours and lose distances.
"""

import numpy as np

from minillm.viz.style import COLOURS, GREY, fonts, new_figure, printable

__all__ = ["principal_components", "word_map"]

SIZE = 8.5  # points, of a label's letters
ROUNDS = 4
# horizontal and vertical alignment, and how far from the mark, in points; the best places first
SIDES = [
    ("left", "center", 5, 0),
    ("right", "center", -5, 0),
    ("center", "bottom", 0, 4),
    ("center", "top", 0, -4),
    ("left", "bottom", 3, 2),
    ("left", "top", 3, -2),
    ("right", "bottom", -3, 2),
    ("right", "top", -3, -2),
    ("center", "bottom", 0, 13),
    ("center", "top", 0, -13),
]


def principal_components(rows, n=2):
    """Places of the rows along the n directions in which they spread most.

    Parameters
    ----------
    rows : (N, C) float
    n : int, at most the smaller of N and C

    Returns
    -------
    places : (N, n); the farthest row of each column lies on its positive side, for a direction's
        sign means nothing
    share : (n,), how much of the whole variance each direction holds

    Raises
    ------
    ValueError
        for rows that are no (N, C) or have fewer directions than n.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or not 1 <= n <= min(rows.shape):
        raise ValueError(f"rows must be (N, C) with N and C at least {n}, got shape {rows.shape}")
    centred = rows - rows.mean(0)  # (N, C)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)  # (N, R), (R,)
    places = u[:, :n] * s[:n]  # (N, n)
    farthest = places[np.abs(places).argmax(0), np.arange(n)]  # (n,)
    share = s[:n] ** 2 / max((s**2).sum(), np.finfo(float).tiny)
    return places * np.where(farthest < 0, -1, 1), share


def word_map(vectors, groups, *, title=None, arrows=()):
    """Groups of words on the plane in which their unit vectors spread most.

    Parameters
    ----------
    vectors : WordVectors
    groups : {name: list of words}, each in a colour and a mark of its own
    title : str or None
    arrows : pairs of words on the map to join, from the first to the second

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for fewer than three words, or an unknown one.
    """
    words = [word for group in groups.values() for word in group]
    if len(words) < 3:
        raise ValueError(f"word_map needs at least 3 words, got {len(words)}")
    rows = np.array([vectors[word] for word in words], np.float64)  # (N, C)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    places, share = principal_components(rows)  # (N, 2)
    figure = new_figure(7.2, 6.4)
    axes = figure.add_subplot(title=title)
    colours, at = [], 0
    for index, (name, group) in enumerate(groups.items()):
        colour, mark = COLOURS[index % len(COLOURS)], "os^DvPX"[index % 7]
        here = places[at : at + len(group)]
        axes.scatter(*here.T, s=22, color=colour, marker=mark, label=name, zorder=3)
        colours += [colour] * len(group)
        at += len(group)
    where = dict(zip(words, places, strict=True))
    for start, end in arrows:
        line = {"arrowstyle": "-|>", "color": "0.6", "linewidth": 0.9, "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", where[end], where[start], arrowprops=line, zorder=2)
    axes.margins(0.12)
    axes.set_xlabel(f"first direction ({share[0]:.0%} of the variance)", color=GREY)
    axes.set_ylabel(f"second direction ({share[1]:.0%})", color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.set_aspect("equal", adjustable="datalim")
    if len(groups) > 1:
        columns = min(len(groups), 4)
        figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=columns)
    figure.draw_without_rendering()  # makes the layout: from now on data have places in points
    _label(axes, places, words, colours)
    return figure


def _label(axes, places, words, colours):
    """A name beside each mark, on the side where it covers least of the marks and other names."""
    inch = axes.figure.dpi
    points = axes.transData.transform(places) * 72 / inch  # (N, 2), in points
    frame = axes.get_window_extent().extents * 72 / inch  # left, low, right, high
    marks = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    sides = [_sides(x, y, word) for (x, y), word in zip(points, words, strict=True)]
    chosen = [0] * len(words)
    for _ in range(ROUNDS):  # each in turn gives way to all others
        for i, around in enumerate(sides):
            taken = marks + [sides[j][chosen[j]][0] for j in range(len(words)) if j != i]
            costs = [
                _outside(box, frame) + sum(_common(box, t) for t in taken) for box, *_ in around
            ]
            chosen[i] = int(np.argmin(costs))
    for i, word in enumerate(words):
        _, shift, ha, va = sides[i][chosen[i]]
        axes.annotate(
            printable(word),
            places[i],
            xytext=shift,
            textcoords="offset points",
            ha=ha,
            va=va,
            color=colours[i],
            fontsize=SIZE,
            family=fonts(),
            zorder=4,
            in_layout=False,  # or the plot would shrink, and the names with their places be wrong
        )


def _sides(x, y, word):
    """Where a name can stand beside the point (x, y): box, shift of its anchor, alignments."""
    wide, high = 0.6 * SIZE * len(word), 1.1 * SIZE
    left = {"left": 0, "center": -wide / 2, "right": -wide}
    low = {"bottom": 0, "center": -high / 2, "top": -high}
    found = []
    for ha, va, dx, dy in SIDES:
        corner = x + dx + left[ha], y + dy + low[va]
        found.append(((*corner, corner[0] + wide, corner[1] + high), (dx, dy), ha, va))
    return found


def _common(box, other):
    """The area that two boxes (left, low, right, high) share."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(high, 0)


def _outside(box, frame):
    """Twice the area of a box that lies outside a frame: worse than to cover something."""
    return 2 * ((box[2] - box[0]) * (box[3] - box[1]) - _common(box, frame))

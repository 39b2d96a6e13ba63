"""The merges of a text as a picture: every token above the pieces it is made of."""

import dataclasses

from matplotlib.patches import FancyBboxPatch

from minillm.viz.merges_steps import label, merge_steps
from minillm.viz.style import GREY, fonts, new_figure, printable
from minillm.viz.tokens import BACKGROUNDS

__all__ = ["merge_figure"]

WIDEST = 32  # bytes in a line


@dataclasses.dataclass(frozen=True)
class _Node:
    """A token on the way: bytes `start` to `stop` of its word, `level` boxes up."""

    token: bytes
    start: int
    stop: int
    level: int
    rank: int | None
    final: int | None  # its place among the word's tokens in the end
    parts: tuple


def _nodes(steps, place):
    """All tokens that the word at a place was made of, as _Node."""
    made: dict[tuple[int, int], _Node] = {}
    for step in steps:
        start = 0
        for k, token in enumerate(step.words[place]):
            span = start, start + len(token)
            if span not in made:
                parts = tuple(n for n in made.values() if span[0] <= n.start and n.stop <= span[1])
                top = [n for n in parts if not any(_holds(other, n) for other in parts)]
                level = 1 + max((n.level for n in top), default=-1)
                made[span] = _Node(token, *span, level, step.rank, None, tuple(top))
            if step is steps[-1]:
                made[span] = dataclasses.replace(made[span], final=k)
            start = span[1]
    return list(made.values())


def _holds(outer, inner):
    return outer is not inner and outer.start <= inner.start and inner.stop <= outer.stop


def merge_figure(text, tokenizer, *, title=None):
    """The merges of a text as a picture: bytes below, above them what they were joined to.

    The number in a box is the merge's place in the tokenizer's list, from 1: the smaller, the
    earlier it was learned. The tokens that are left in the end are framed.

    Parameters
    ----------
    text, tokenizer : see `merge_steps`
    title : str or None

    Returns
    -------
    figure : matplotlib Figure
    """
    steps = merge_steps(text, tokenizer)
    words = [_nodes(steps, place) for place in range(len(steps[0].words))]
    lines = _lines(words)
    heights = [1 + max(n.level for nodes in line for n in nodes) for line in lines]
    wide = max(sum(_width(nodes) + 0.35 for nodes in line) for line in lines)
    rows = sum(heights) + 0.6 * (len(lines) - 1)
    figure = new_figure(max(3.5, 0.3 * wide + 0.3), 0.36 * rows + (0.5 if title else 0.2))
    axes = figure.add_subplot(xlim=(-0.1, wide), ylim=(-0.1, rows + 0.05))
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=11)
    base, colour = rows, 0
    for line, height in zip(lines, heights, strict=True):
        base -= height
        left = 0.0
        for nodes in line:
            for node in nodes:
                if node.final is not None:
                    _draw(
                        axes,
                        node,
                        left,
                        base,
                        BACKGROUNDS[(colour + node.final) % len(BACKGROUNDS)],
                    )
            left += _width(nodes) + 0.35
            colour += sum(node.final is not None for node in nodes)
        base -= 0.6
    return figure


def _width(nodes):
    return max(n.stop for n in nodes)


def _lines(words):
    """Words in lines; one that is longer than a line has a line of its own."""
    lines: list[list] = [[]]
    for nodes in words:
        if lines[-1] and sum(map(_width, lines[-1])) + _width(nodes) > WIDEST:
            lines.append([])
        lines[-1].append(nodes)
    return lines


def _draw(axes, node, left, base, colour):
    """A token and all that it was joined from, below it."""
    x, y, wide = left + node.start, base + node.level, node.stop - node.start
    for part in node.parts:
        _draw(axes, part, left, base, colour)
        if part.level < node.level - 1:  # a stem up to where it is joined
            middle = left + (part.start + part.stop) / 2
            axes.plot([middle] * 2, [base + part.level + 0.85, y], color="0.75", linewidth=1)
    final = node.final is not None
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.06, y + 0.04),
            wide - 0.12,
            0.8,
            boxstyle="round,pad=0,rounding_size=0.14",
            facecolor=colour,
            edgecolor="#333333" if final else "none",
            linewidth=1.1 if final else 0,
            alpha=1 if final else 0.55,
        )
    )
    text, number = printable(label(node.token)), "" if node.rank is None else f"{node.rank + 1:,}"
    roomy = wide >= 2 and len(text) <= 2.2 * wide
    size = 9 if roomy or len(text) == 1 else 6
    low = 0.55 if number else 0.43
    style = {"ha": "center", "va": "center", "family": fonts()}
    axes.text(x + wide / 2, y + low, text, fontsize=size, **style)
    if number:
        axes.text(x + wide / 2, y + 0.2, number, fontsize=5.5, color=GREY, **style)

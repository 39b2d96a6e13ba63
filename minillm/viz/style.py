"""What all pictures share: colours that colour-blind readers tell apart, labels, saving.

Pictures are made with matplotlib's Figure objects alone. pyplot is never imported, so no window
opens, no global state is left behind, and threads and notebooks do not meet each other's figures.
"""

import functools
import io
import unicodedata

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from minillm.files import write_bytes

__all__ = [
    "COLOURS",
    "GREY",
    "Picture",
    "as_png",
    "fonts",
    "new_figure",
    "printable",
    "save",
    "spread",
]

# Okabe & Ito 2008, "Color Universal Design", in an order in which neighbours differ in lightness;
# without their yellow, which is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6b6b6b"

# Asked in this order for a character that the one before lacks; those not installed are left out.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Arial Unicode MS",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
)
MISSING = "□"
SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "↵"}


class Picture(Figure):
    """A Figure that shows itself in a notebook, where only pyplot's would."""

    def _repr_png_(self):
        return as_png(self)


def new_figure(width, height):
    """An empty figure of so many inches, laid out so that labels never overlap the plots."""
    return Picture(figsize=(width, height), dpi=150, layout="constrained")


def as_png(figure):
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def save(figure, path):
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    UserError
        if the file cannot be written.
    """
    write_bytes(path, as_png(figure))


@functools.cache
def fonts():
    """The names of those FONTS that are installed; the first always is, matplotlib brings it."""
    installed = set(font_manager.get_font_names())
    return [name for name in FONTS if name in installed]


@functools.cache
def _characters():
    """All code points that the installed fonts can draw."""
    known: set[int] = set()
    for name in fonts():
        known |= font_manager.get_font(font_manager.findfont(name)).get_charmap().keys()
    return known


def printable(token):
    """A token's text as it can stand on an axis: blanks as signs, what no font has as a box."""
    text = "".join(SIGNS.get(c, c) for c in token)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf"))
    text = "".join(c if ord(c) in _characters() else MISSING for c in text)
    return text.replace("$", r"\$")  # a lone dollar would start mathematics


def spread(positions, gap):
    """Move labels apart along a line, each as little as possible, keeping their order.

    Parameters
    ----------
    positions : (N,) where the labels would like to stand
    gap : float, the least distance between two

    Returns
    -------
    moved : (N,)
    """
    positions = np.asarray(positions, float)
    order = np.argsort(positions, kind="stable")
    # with the wanted gaps taken out, what is left is the closest non-decreasing sequence:
    # neighbours that would cross are pooled at their mean (isotonic regression)
    pools: list[list[float]] = []  # [sum, count]
    for value in positions[order] - gap * np.arange(len(order)):
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    level = np.concatenate([np.full(int(c), s / c) for s, c in pools]) if pools else np.empty(0)
    moved = np.empty_like(positions)
    moved[order] = level + gap * np.arange(len(order))
    return moved

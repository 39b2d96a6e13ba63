"""A text coloured by surprise as a picture, with the scale below it."""

from matplotlib.patches import Rectangle

from minillm.viz.ramp import ink_on, shade
from minillm.viz.style import GREY
from minillm.viz.tokens_picture import MARGIN, POINTS, draw

__all__ = ["draw_surprise"]

ROOM, STRIPES = 58, 64  # points for the scale, and the pieces that it is drawn in


def draw_surprise(view, ticks, *, width, title):
    """The figure of `SurpriseView.figure`; ticks as `legend_ticks` gives them."""
    colours, unknown = {}, {}  # a Piece is one token, so its identity tells the place
    for name, held in view.pieces.items():
        tokens = [piece for piece in held if piece.id is not None]
        for piece, bits in zip(tokens, view.bits[name], strict=True):
            colours[id(piece)] = shade(view.share(bits))
            unknown[id(piece)] = "#b00020" if piece.unknown else None

    def paint(piece, place):
        background = colours[id(piece)]
        return background, ink_on(background), unknown[id(piece)]

    blocks = [(name, view.heading(name), held) for name, held in view.pieces.items()]
    figure = draw(blocks, paint, ids=False, width=width, title=title, room=ROOM)
    _scale(figure.axes[0], ticks, width)
    return figure


def _scale(axes, ticks, width):
    """The shades in a row at the bottom: bits above, probabilities below."""
    left, right = MARGIN, min(width * POINTS - MARGIN, MARGIN + 330)
    top = axes.get_ylim()[0] - MARGIN - 32
    wide = (right - left) / STRIPES
    for i in range(STRIPES):
        place = left + i * wide, top
        colour = shade(i / (STRIPES - 1))
        axes.add_patch(Rectangle(place, wide + 0.3, 9, facecolor=colour, edgecolor="none"))
    for at, (bits, p) in ticks:
        style = {"fontsize": 7.5, "color": GREY, "va": "center"}
        style["ha"] = {0: "left", 1: "right"}.get(at, "center")
        axes.text(left + at * (right - left), top - 6, bits, **style)
        axes.text(left + at * (right - left), top + 16, p, **style)
    note = "surprise, bits per token, and its probability"
    axes.text(left, top + 28, note, fontsize=8, color=GREY, va="center")

"""Coloured tokens as a picture: boxes that are laid out like words in lines."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch

from minillm.viz.style import GREY, fonts, new_figure, printable

__all__ = ["draw"]

POINTS = 72  # an inch
MARGIN, GAP, LINE, HEAD = 12, 2.5, 21, 20  # points: at the edges, between boxes, a line, a heading
SIZE, SMALL = 10, 6  # points, of a token's letters and of its number
MOST = 1500  # tokens drawn of each tokenizer; more could not be read


def draw(blocks, paint, *, ids, width, title, room=0):
    """The figure of `TokenView.figure`; its axes count points, from the upper left corner.

    Parameters
    ----------
    blocks : list of (name, heading, list of Piece)
    paint : function of a Piece and its place -> (background, colour of the letters, colour of the
        dashed edge or None)
    ids : bool, whether numbers stand below the tokens
    width : float, inches
    title : str or None
    room : float, points left empty at the bottom
    """
    measure = _Measure(width)
    line = LINE + (8 if ids else 0)
    heads, laid, down = [], [], MARGIN + (HEAD if title else 0)  # points from the top
    for name, heading, pieces in blocks:
        heads.append((down, name, heading))
        boxes, lines = _lines(pieces, measure, width * POINTS - MARGIN, ids)
        laid += [(down + HEAD + row * line, *box) for row, *box in boxes]
        down += HEAD + lines * line + 10
    height = (down + room + MARGIN - 10) / POINTS
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # all is laid out already
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width * POINTS), ylim=(height * POINTS, 0))
    axes.set_axis_off()
    if title:
        axes.text(MARGIN, MARGIN + 6, _label(title), fontsize=12, va="center", family=fonts())
    for top, name, heading in heads:
        name, heading = _label(name), heading.replace("$", r"\$")
        bold = axes.text(MARGIN, top + 9, name, fontsize=SIZE, weight="bold", va="center")
        left = MARGIN + measure(name, bold.get_fontproperties()) + 8
        axes.text(left, top + 9, heading, fontsize=SIZE - 1, color=GREY, va="center")
    for top, left, wide, text, place, piece in laid:
        if piece is None or piece.id is None:
            style = {"fontsize": SIZE, "color": GREY, "family": fonts()}
            axes.text(left + (2 if piece else 0), top + 12, text, **style)
        else:
            number = str(piece.id) if ids else ""
            _box(axes, (left, top, wide), text, paint(piece, place), number)
    return figure


def _label(text):
    """What stands above tokens: printable, its blanks as they are."""
    return " ".join(map(printable, text.split(" ")))


def _lines(pieces, measure, right, ids):
    """[(line, left edge, width, text, place, piece), ...] and how many lines there are."""
    boxes, row, left = [], 0, MARGIN
    for place, piece in enumerate(pieces[:MOST]):
        text = printable(piece.shown)
        wide = measure(text) + 4
        if ids and piece.id is not None:
            wide = max(wide, measure(str(piece.id)) * SMALL / SIZE + 3)
        if left + wide > right and left > MARGIN:
            row, left = row + 1, MARGIN
        boxes.append((row, left, wide, text, place, piece))
        left += wide + GAP
        if piece.ends_line:
            row, left = row + 1, MARGIN
    if len(pieces) > MOST:
        boxes.append((row + 1, MARGIN, 0, f"and {len(pieces) - MOST:,} more", 0, None))
    return boxes, boxes[-1][0] + 1 if boxes else 0


def _box(axes, place, text, colours, number):
    left, top, wide = place
    background, ink, edge = colours
    axes.add_patch(
        FancyBboxPatch(
            (left + 1, top + 1),
            wide - 2,
            14,
            boxstyle="round,pad=1,rounding_size=2.5",
            facecolor=background,
            edgecolor=edge or "none",
            linestyle="--",
            linewidth=0.8,
        )
    )
    style = {"ha": "center", "family": fonts()}
    middle = left + wide / 2
    axes.text(middle, top + 12, text, fontsize=SIZE, color=ink, **style)
    axes.text(middle, top + 22.5, number, fontsize=SMALL, color=GREY, **style)


class _Measure:
    """How wide a text is, in points."""

    def __init__(self, width):
        figure = new_figure(width, 1)
        self.renderer = FigureCanvasAgg(figure).get_renderer()
        self.scale = POINTS / figure.dpi
        self.font = FontProperties(family=fonts(), size=SIZE)
        self.known: dict[str, float] = {}

    def __call__(self, text, font=None):
        if font is None and text in self.known:
            return self.known[text]
        plain = text.replace(r"\$", "$")
        size = self.renderer.get_text_width_height_descent(plain, font or self.font, False)[0]
        if font is None:
            self.known[text] = size * self.scale
        return size * self.scale

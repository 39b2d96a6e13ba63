"""A text cut into coloured tokens, by several tokenizers side by side.

For the terminal, for a page or a notebook, and as a picture (tokens_picture.py). Everywhere white
space can be seen, and no character of the text can do anything: control characters, which could
move a terminal's cursor or turn the direction of writing, are shown by their numbers.
"""

import dataclasses
import html
import os
import sys
import unicodedata

import click
import regex

from minillm.errors import UserError
from minillm.viz.style import SIGNS
from minillm.viz.tokens_picture import draw

__all__ = ["TokenView", "pieces", "visible"]

# Light backgrounds for black letters, neighbours unlike one another to colour-blind readers too.
BACKGROUNDS = ("#c6dcf2", "#fbdcb5", "#c5e8d5", "#f3d3e3", "#eee8aa", "#dcdcdc")
UNKNOWN = "#b00020"
STYLE = """<style>
.minillm-tokens {display: flex; flex-wrap: wrap; gap: 1em; font: 14px/1.9 sans-serif}
.minillm-tokens section {flex: 1 1 18em; min-width: 0}
.minillm-tokens h4 {margin: 0 0 .3em; font-size: 14px}
.minillm-tokens h4 small {font-weight: normal; opacity: .7}
.minillm-tokens p {margin: 0; overflow-wrap: anywhere}
.minillm-tokens span {color: #111; padding: .1em 1px; white-space: pre-wrap}
.minillm-tokens span {margin-right: 1px; border-radius: 3px}
.minillm-tokens span.part {font: 11px monospace}
.minillm-tokens span.unknown {color: UNKNOWN; outline: 1px dashed UNKNOWN}
.minillm-tokens i {opacity: .5; font-style: normal}
.minillm-tokens sub {opacity: .7; font-size: 9px; padding-left: 1px}
COLOURS
</style>""".replace("UNKNOWN", UNKNOWN)
STYLE = STYLE.replace(
    "COLOURS",
    "\n".join(f".minillm-tokens .c{i} {{background: {c}}}" for i, c in enumerate(BACKGROUNDS)),
)


@dataclasses.dataclass(frozen=True)
class Piece:
    """What is shown of a token, or of text that no token holds (`id` None).

    shown: its text, visible; name: what its tokenizer calls it; part: whether it shares a character
    with another token, so that it is shown by its name; unknown: whether it stands for what the
    vocabulary lacks; ends_line: whether its text does.
    """

    shown: str
    id: int | None = None
    name: str = ""
    part: bool = False
    unknown: bool = False
    ends_line: bool = False


class TokenView:
    """A text as several tokenizers cut it; in a notebook it shows itself.

    Parameters
    ----------
    text : str
    tokenizers : a tokenizer, or {name: tokenizer}
    ids : bool, whether to write the number of each token beside it
    special : names of special tokens to look for in the text, or "all"

    Attributes
    ----------
    pieces : {name: list of Piece}, in the order of the text

    Raises
    ------
    UserError
        as the tokenizers' `encode` does, and for a special token that none of them has.
    """

    def __init__(self, text, tokenizers, *, ids=False, special=()):
        if not isinstance(tokenizers, dict):
            tokenizers = {tokenizers.kind: tokenizers}
        self.text, self.ids = text, ids
        _check_asked(tokenizers, special)
        asked = {name: _asked(tokenizer, special) for name, tokenizer in tokenizers.items()}
        self.pieces = {n: pieces(text, t, special=asked[n]) for n, t in tokenizers.items()}

    def heading(self, name):
        """How many tokens, and how many bytes of UTF-8 each holds."""
        tokens = sum(piece.id is not None for piece in self.pieces[name])
        unknown = sum(piece.unknown for piece in self.pieces[name])
        size = len(self.text.encode())
        each = f", {size / tokens:.2f} bytes each" if tokens else ""
        lost = f", {unknown:,} unknown" if unknown else ""
        return f"{tokens:,} token{'' if tokens == 1 else 's'}{each}{lost}"

    def terminal(self, *, colour=None):
        """The view as lines for a terminal: in colours, or each token in brackets.

        Parameters
        ----------
        colour : bool or None, None: if standard output is a terminal, and NO_COLOR is not set
        """
        if colour is None:
            colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        lines = []
        for name, pieces in self.pieces.items():
            head = click.style(name, bold=True) if colour else name
            lines += [f"{head}: {self.heading(name)}", _in_line(pieces, self.ids, colour), ""]
        return "\n".join(lines)

    def html(self):
        """A piece of HTML that needs nothing else, a column for each tokenizer."""
        sections = []
        for name, pieces in self.pieces.items():
            marked = "".join(_marked(p, i, self.ids) for i, p in enumerate(pieces))
            head = f"<h4>{html.escape(name)} <small>{self.heading(name)}</small></h4>"
            sections.append(f"<section>{head}<p>{marked}</p></section>")
        return f'{STYLE}\n<div class="minillm-tokens">{"".join(sections)}</div>'

    def page(self):
        """A whole page, for a file."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Tokens</title>'
            f"</head><body>\n{self.html()}\n</body></html>\n"
        )

    def _repr_html_(self):
        return self.html()

    def figure(self, *, width=8.0, title=None):
        """A picture, a block of lines for each tokenizer.

        Parameters
        ----------
        width : float, inches
        title : str or None

        Returns
        -------
        figure : matplotlib Figure
        """
        blocks = [(name, self.heading(name), pieces) for name, pieces in self.pieces.items()]
        return draw(blocks, _paint, ids=self.ids, width=width, title=title)

    def __repr__(self):
        return self.terminal(colour=False)


def _paint(piece, place):
    edge = UNKNOWN if piece.unknown else None
    return BACKGROUNDS[place % len(BACKGROUNDS)], edge or "black", edge


def pieces(text, tokenizer, *, special=()):
    """The tokens of a text and what stands between them, a list of Piece."""
    ids, spans = tokenizer.encode_with_offsets(text, special=special)
    ids, spans = ids.tolist(), spans.tolist()
    found, done = [], 0
    for k, (i, (start, stop)) in enumerate(zip(ids, spans, strict=True)):
        if start > done:
            found += _between(text[done:start])
        after = spans[k + 1][0] if k + 1 < len(spans) else len(text)
        part = start < done or after < stop or start == stop
        name = tokenizer.token_name(i)
        shown = visible(name if part else text[start:stop])
        ends = text[start:stop].endswith("\n") and after >= stop
        found.append(Piece(shown, i, name, part, i == tokenizer.unknown_id, ends))
        done = max(done, stop)
    if done < len(text):
        found += _between(text[done:])
    return found


def visible(text):
    """A text of which everything can be seen: blanks as signs, what has no shape as its number."""
    shown = "".join(SIGNS.get(c) or (c if _has_shape(c) else f"<U+{ord(c):04X}>") for c in text)
    if shown and unicodedata.category(shown[0])[0] == "M":
        return "\N{DOTTED CIRCLE}" + shown  # for an accent to stand on
    return shown


def _has_shape(c):
    return unicodedata.category(c)[0] not in "CZ"


def _check_asked(tokenizers, special):
    """Refuse a name that none of the tokenizers has."""
    known = {name: None for t in tokenizers.values() for name in t.special_tokens}
    for name in [special] if isinstance(special, str) else special:
        if name not in known and special != "all":
            raise UserError(f"no special token {name!r}; there are: {', '.join(known)}")


def _asked(tokenizer, special):
    """Those of the names that a tokenizer has: no two need have the same."""
    if isinstance(special, str):
        return special if special == "all" or special in tokenizer.special_tokens else ()
    return [name for name in special if name in tokenizer.special_tokens]


def _between(text):
    """Text that no token holds, a Piece a line."""
    lines = [line for line in regex.split(r"(?<=\n)", text) if line]
    return [Piece(visible(line), ends_line=line.endswith("\n")) for line in lines]


def _in_line(pieces, ids, colour):
    words = []
    for place, piece in enumerate(pieces):
        number = "" if piece.id is None or not ids else str(piece.id)
        if not colour:
            mark = "?" if piece.unknown else ""
            number = f"={number}" if number else ""
            words.append(piece.shown if piece.id is None else f"[{mark}{piece.shown}{number}]")
        elif piece.id is None:
            words.append(click.style(piece.shown, dim=True))
        else:
            back = BACKGROUNDS[place % len(BACKGROUNDS)]
            look = {"bg": _rgb(back), "fg": _rgb(UNKNOWN if piece.unknown else "#000000")}
            words.append(click.style(piece.shown, underline=piece.unknown or None, **look))
            words.append(click.style(number, dim=True) if number else "")
        words.append("\n" if piece.ends_line else "")
    return "".join(words).removesuffix("\n")


def _rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def _marked(piece, place, ids):
    end = "<br>" if piece.ends_line else ""
    if piece.id is None:
        return f"<i>{html.escape(piece.shown)}</i>{end}"
    kinds = [f"c{place % len(BACKGROUNDS)}", "part" * piece.part, "unknown" * piece.unknown]
    name = html.escape(f"{piece.id}: {visible(piece.name)}")
    number = f"<sub>{piece.id}</sub>" if ids else ""
    return (
        f'<span class="{" ".join(filter(None, kinds))}" title="{name}">'
        f"{html.escape(piece.shown)}{number}</span><wbr>{end}"
    )

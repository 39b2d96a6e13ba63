"""A text coloured by surprise: how many bits each token costs a model, -log2 p.

The darker a token, the less the model expected it. The scale ends at log2 V, what a blind guess
among V tokens costs: beyond it a model would have done better to know nothing.
"""

import dataclasses
import html
import math

import numpy as np

from minillm.metrics.language import bits_per_byte
from minillm.models.next_token import distributions
from minillm.viz.ramp import CLASSES, ink_on, shade
from minillm.viz.surprise_page import SCRIPT, STYLE
from minillm.viz.surprise_picture import draw_surprise
from minillm.viz.tokens import Piece, pieces, visible
from minillm.viz.view import View

__all__ = ["Guess", "SurpriseView", "guesses"]


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a model expected where a token stands.

    p : the token's probability; bits: -log2 p, infinite for an impossible token
    rank : 1 for the likeliest token
    size : bytes of UTF-8 that the token holds, None where it shares a character with another
    top : list of (name, probability) of the likeliest tokens, likeliest first
    """

    p: float
    bits: float
    rank: int
    size: int | None
    top: list[tuple[str, float]]


def guesses(model, text, *, top=5):
    """What a model expects of a text, token by token.

    The first token is predicted from the end token, as at the beginning of a document. A GPT whose
    block is full goes on with the last half of it, as in generation.

    Parameters
    ----------
    model : with `tokenizer`, and `start` and `step` or `distributions`
    text : str
    top : int, how many of the likeliest tokens to keep at each place

    Returns
    -------
    guesses : list of Guess, one a token

    Raises
    ------
    UserError
        for a model that gives scores, not probabilities.
    """
    ids, spans = model.tokenizer.encode_with_offsets(text)
    if len(ids) == 0:
        return []
    shared = np.append(spans[1:, 0] < spans[:-1, 1], False)  # with the token after it
    shared[1:] |= shared[:-1]
    found: list[Guess] = []
    for block in distributions(model, ids):  # (n, V)
        for p in block:
            k = len(found)
            start, stop = spans[k]
            size = None if shared[k] else len(text[start:stop].encode())
            found.append(_guess(p, int(ids[k]), size, top, model.tokenizer))
    return found


def _guess(p, id, size, top, tokenizer):
    best = np.argsort(-p, kind="stable")[:top]
    names = [(visible(tokenizer.token_name(int(i))), float(p[i])) for i in best]
    bits = -math.log2(p[id]) if p[id] > 0 else math.inf
    return Guess(float(p[id]), max(bits, 0.0), int(np.sum(p > p[id])) + 1, size, names)


class SurpriseView(View):
    """A text coloured by how much it surprises a model, or several, one below the other.

    Point at a token, or go there by Tab and the arrow keys, to see what the model expected.

    Parameters
    ----------
    model : any model with a distribution of the next token, or {name: model}
    text : str
    most : float or None, the bits of the darkest shade; None: log2 V, rounded up, of the largest V
    top : int, how many of the likeliest tokens are shown of each place

    Attributes
    ----------
    guesses : {name: list of Guess}, one a token of the text
    bits : {name: (N,) float64}, the surprise at each token

    Raises
    ------
    UserError
        for a model that gives scores, not probabilities.
    ValueError
        if there is no model, or `most` is not above 0.
    """

    height = 360

    def __init__(self, model, text, *, most=None, top=5):
        models = model if isinstance(model, dict) else {model.kind: model}
        if not models:
            raise ValueError("SurpriseView needs at least one model, got none")
        if most is not None and not most > 0:
            raise ValueError(f"most must be above 0 bits, got {most!r}")
        size = max(m.tokenizer.vocab_size for m in models.values())
        self.text, self.blind = text, math.log2(size)
        self.most = float(most or max(1, math.ceil(self.blind)))
        self.title = "Surprise, in bits per token"
        self.pieces = {name: pieces(text, m.tokenizer) for name, m in models.items()}
        self.guesses = {name: guesses(m, text, top=top) for name, m in models.items()}
        self.bits = {n: np.array([g.bits for g in gs], float) for n, gs in self.guesses.items()}
        self.per_byte = {name: self._per_byte(name, m.tokenizer) for name, m in models.items()}

    def _per_byte(self, name, tokenizer):
        """Bits a byte of the text, its end left out; None where the tokens do not tell the text."""
        n_bytes = len(self.text.encode())
        lost = tokenizer.unknown_bytes(self.text)
        told = tokenizer.lossless or tokenizer.decode(tokenizer.encode(self.text)) == self.text
        if not n_bytes or not told:
            return None
        return bits_per_byte(self.bits[name] * math.log(2), n_bytes, lost)

    def heading(self, name):
        """What the text costs a model, in words."""
        bits = self.bits[name]
        if not len(bits):
            return "no tokens"
        each = self.per_byte[name]
        byte = "" if each is None else f", {each:.2f} bits per byte"
        many = "1 token" if len(bits) == 1 else f"{len(bits):,} tokens"
        return f"{bits.mean():.2f} bits per token{byte}, {many}"

    def share(self, bits):
        """Where on the scale so many bits stand, from 0 to 1."""
        return min(bits / self.most, 1.0)

    def body(self):
        parts = []
        for name in self.pieces:
            head = f"<h2>{html.escape(name)} <small>{self.heading(name)}</small></h2>"
            parts.append(f'<section>{head}<p class="text">{self._marked(name)}</p></section>')
        told = (
            "Point at a token, or press Tab and the arrow keys, to see what was expected there; "
            "a click holds it."
        )
        return f'{self._legend()}<div id="told" aria-live="polite">{told}</div>{"".join(parts)}'

    def _legend(self):
        """The scale, with its bits above and the probabilities that they stand for below."""
        boxes = "".join(
            f'<rect x="{2 + 18 * i}" y="16" width="18.5" height="12" '
            f'fill="{shade(i / (CLASSES - 1))}"/>'
            for i in range(CLASSES)
        )
        ticks = []
        for at, (bits, p) in legend_ticks(self.most):
            x, anchor = 2 + 288 * at, {0: "start", 1: "end"}.get(at, "middle")
            ticks.append(
                f'<text x="{x:.0f}" y="12" text-anchor="{anchor}">{bits}</text>'
                f'<text x="{x:.0f}" y="40" text-anchor="{anchor}">{p}</text>'
            )
        return (
            '<svg class="scale" viewBox="0 0 292 46" role="img" aria-label="white: 0 bits per '
            f'token, expected; dark blue: {self.most:g} bits or more, a surprise">'
            f"{boxes}{''.join(ticks)}</svg>"
            f'<div class="note">surprise in bits per token, and its probability; a blind guess '
            f"among the model's tokens costs {self.blind:.1f} bits</div>"
        )

    def _marked(self, name):
        """The text, each token in its shade; what no token holds in grey."""
        marked, k = [], 0
        for piece in self.pieces[name]:
            end = "<br>" if piece.ends_line else ""
            shown = html.escape(piece.shown)
            if piece.id is None:
                marked.append(f"<i>{shown}</i>{end}")
                continue
            guess = self.guesses[name][k]
            kind = round(self.share(guess.bits) * (CLASSES - 1))
            part = " part" * piece.part + " unknown" * piece.unknown
            marked.append(
                f'<span class="s{kind}{part}" title="{html.escape(_in_words(piece, guess))}">'
                f"{shown}</span><wbr>{end}"
            )
            k += 1
        return "".join(marked)

    def style(self):
        shades = [shade(i / (CLASSES - 1)) for i in range(CLASSES)]
        ramp = "\n".join(
            f".s{i} {{background: {c}; color: {ink_on(c)}}}" for i, c in enumerate(shades)
        )
        return STYLE + ramp

    def data(self):
        rows = []
        for name, found in self.guesses.items():
            held = [piece for piece in self.pieces[name] if piece.id is not None]
            rows += [_for_page(piece, guess) for piece, guess in zip(held, found, strict=True)]
        return rows

    def script(self):
        return SCRIPT

    def figure(self, *, width=8.0, title=None):
        """The same as a matplotlib Figure: the texts in their shades, and the scale.

        Parameters
        ----------
        width : float, inches
        title : str or None
        """
        return draw_surprise(self, legend_ticks(self.most), width=width, title=title)

    def __repr__(self):
        return "\n".join(f"{name}: {self.heading(name)}" for name in self.pieces)


def legend_ticks(most):
    """[(place from 0 to 1, (bits, probability)), ...], the last one standing for more, too."""
    step = max(1, math.ceil(most / 5))
    whole = [b for b in range(0, math.ceil(most), step) if most - b > step / 2]
    ticks = [(b / most, (f"{b}", "p = 1" if b == 0 else f"1/{2**b:,}")) for b in whole]
    last = f"1/{round(2**most):,}" if most < 40 else "0"
    return [*ticks, (1, (f"≥ {most:g} bits", f"≤ {last}"))]


def _bits(bits):
    return "∞ bits: impossible to it" if math.isinf(bits) else f"{bits:.2f} bits"


def _in_words(piece, guess):
    best = ", ".join(f"{name} {p:.3f}" for name, p in guess.top)
    return f"{visible(piece.name)}: {_bits(guess.bits)}, p = {guess.p:.3g}; expected: {best}"


def _for_page(piece: Piece, guess):
    """A token's row of the page's data: name, bits, what else is known, the likeliest."""
    name = visible(piece.name)
    each = guess.bits / guess.size if guess.size else math.inf
    facts = [f"p = {guess.p:.3g}", f"rank {guess.rank:,}"]
    if math.isfinite(each):
        bytes_ = "1 byte" if guess.size == 1 else f"{guess.size} bytes"
        facts.append(f"{each:.2f} bits per byte ({bytes_})")
    if piece.unknown:
        facts.append("not in the vocabulary: what it is costs more")
    top = [[n, round(p, 5), n == name] for n, p in guess.top]
    return [name, _bits(guess.bits), ", ".join(facts), top]

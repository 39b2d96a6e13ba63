"""Where the heads of a model look, to be explored: pick a head, point at a token.

The text shows one token's weights as shades behind the others, the matrix below it those of all
tokens at once. Shades grow with the square root of a weight, so that small weights show.
"""

import html

import numpy as np

from minillm.viz.attention import attention_maps, attention_weights, sees_no_future
from minillm.viz.ramp import ink_on, shade
from minillm.viz.style import printable
from minillm.viz.tokens import visible
from minillm.viz.view import View

__all__ = ["AttentionView"]

MOST = 128  # tokens; more makes a page too heavy for a notebook
LABELLED = 64  # tokens whose names still fit beside the matrix
PALETTE = [shade(i / 32) for i in range(33)]
CELL = 10  # the side of a cell of the matrix, in the picture's own units


class AttentionView(View):
    """Attention weights by layer, head and token.

    Parameters
    ----------
    weights : (L, H, T, T), [layer, head, from this token, to that token]; rows sum to 1, or to 0
        where a token may see nothing
    tokens : list of T str, the tokens' text as it is
    show : (layer, head, token), all from 0, what is shown first; by default the last token
    title : str

    Raises
    ------
    ValueError
        if weights and tokens do not belong together, a weight is not in [0, 1], there are more
        than 128 tokens, or `show` is not there.
    """

    def __init__(self, weights, tokens, *, show=(0, 0, -1), title="Attention"):
        weights, tokens = np.asarray(weights, float), list(tokens)
        if weights.ndim != 4 or weights.shape[2:] != (len(tokens), len(tokens)):
            expected = f"(L, H, {len(tokens)}, {len(tokens)})"
            raise ValueError(f"weights must have shape {expected}, got {weights.shape}")
        if not 1 <= len(tokens) <= MOST or 0 in weights.shape:
            raise ValueError(f"1 to {MOST} tokens and a head expected, got {weights.shape}")
        if not ((weights >= 0) & (weights <= 1 + 1e-4)).all():
            raise ValueError(f"weights must be in [0, 1], got {weights.min()} to {weights.max()}")
        if any(not -n <= i < n for i, n in zip(show, weights.shape, strict=False)):
            raise ValueError(f"show must be (layer, head, token) of {weights.shape}, got {show}")
        self.weights, self.tokens, self.title = weights, tokens, title
        self.show = tuple(i % n for i, n in zip(show, weights.shape, strict=False))
        self.causal = sees_no_future(weights)
        self.height = 320 + 46 * len(weights) + min(520, 12 * len(tokens))

    @classmethod
    def of(cls, model, text, **settings):
        """The view of a GPT that reads a text.

        Parameters
        ----------
        model : a LanguageModel of kind "gpt"
        text : str, of at most the model's block
        settings : see AttentionView
        """
        ids = model.tokenizer.encode(text)
        weights = attention_weights(model.params, ids, model.config)
        return cls(weights, [model.tokenizer.token_name(i) for i in ids], **settings)

    def figure(self, *, title=None):
        """All heads as small pictures, see `attention_maps`."""
        names = [printable(token) for token in self.tokens]
        return attention_maps(self.weights, names, title=title)

    def __repr__(self):
        L, H, T, _ = self.weights.shape
        return f"<attention of {L} layers with {H} heads over {T} tokens>"

    def body(self):
        layers, heads = self.weights.shape[:2]
        rows = []
        for layer in range(layers):
            buttons = "".join(
                f'<button type="button" aria-label="layer {layer + 1}, head {head + 1}">'
                f"<canvas>{head + 1}</canvas></button>"  # the number: without scripts
                for head in range(heads)
            )
            rows.append(f"<div><span>layer {layer + 1}</span>{buttons}</div>")
        words = "".join(f"<span>{html.escape(visible(t) or '∅')}</span><wbr>" for t in self.tokens)
        return (
            f'<h2>{html.escape(self.title)}</h2><div id="heads" role="group" '
            f'aria-label="layer and head">{"".join(rows)}</div>'
            '<label>Shades show <select id="way"><option value="to">where the chosen token looks'
            '</option><option value="from">which tokens look at it</option></select></label>'
            f'<p class="text">{words}</p><div id="told" aria-live="polite">Layer '
            f"{self.show[0] + 1}, head {self.show[1] + 1}: each row of the matrix is a token, its "
            f"shades are where it looks.</div>{self._matrix()}"
        )

    def _matrix(self):
        """The weights of the head that is shown first; a row for each token that looks."""
        names, weights = [visible(t) or "∅" for t in self.tokens], self.weights[self.show[:2]]
        labelled, side = len(names) <= LABELLED, CELL * len(names)
        edge = 8 + (min(70, 5.5 * max(map(len, names))) if labelled else 0)
        parts = []
        if self.causal:
            parts.append(f'<rect width="{side}" height="{side}" fill="#ededed"/>')
        for t, row in enumerate(weights):
            cells = "".join(
                f'<rect x="{CELL * s}" y="{CELL * t}" width="{CELL}" height="{CELL}" '
                f'fill="{PALETTE[_class(w)]}"/>'
                for s, w in enumerate(row[: self._sees(t)])
            )
            parts.append(f"<g>{cells}</g>")
        if labelled:
            for t, name in enumerate(names):
                middle, short = CELL * t + CELL / 2, html.escape(_short(name))
                turned = f' transform="rotate(-90 {middle} -4) translate(0 3)"'
                over = ' text-anchor="middle"' if len(name) == 1 else turned
                parts.append(f'<text x="-4" y="{middle + 3}" text-anchor="end">{short}</text>')
                parts.append(f'<text x="{middle}" y="-4"{over}>{short}</text>')
        parts.append('<rect id="row" fill="none"/>')
        return (
            f'<svg id="map" style="max-width: {max(220, min(560, 1.4 * (side + edge))):.0f}px" '
            f'viewBox="{-edge} {-edge} {side + edge + 2} {side + edge + 2}" role="img" '
            'aria-label="attention matrix: from the token of a row to the token of a column">'
            f"{''.join(parts)}</svg>"
            '<div class="note">Row: the token that looks. Column: the token looked at. White is 0, '
            "dark blue is all of its attention"
            f"{'; grey: later tokens, hidden from it' if self.causal else ''}.</div>"
        )

    def _sees(self, t):
        return t + 1 if self.causal else len(self.tokens)

    def style(self):
        return STYLE

    def data(self):
        rows = [  # in thousandths, a row as long as what the token may see
            [
                [np.rint(1000 * row[: self._sees(t)]).astype(int).tolist() for t, row in each]
                for each in (list(enumerate(head)) for head in layer)
            ]
            for layer in self.weights
        ]
        inks = [ink_on(colour) for colour in PALETTE]
        return {"weights": rows, "show": self.show, "palette": PALETTE, "inks": inks}

    def script(self):
        return SCRIPT


def _class(weight):
    """The number of a weight's shade; the script does the same."""
    return round(min(1.0, float(weight)) ** 0.5 * (len(PALETTE) - 1))


def _short(name, most=12):
    return name if len(name) <= most else name[: most - 1] + "…"


STYLE = """
#heads {overflow-x: auto; margin-bottom: 6px}
#heads div {display: flex; align-items: center; gap: 4px; margin-bottom: 4px}
#heads span {flex: none; width: 4em; font-size: 12px; color: #6b6b6b}
#heads button {flex: none; width: 42px; height: 42px; padding: 2px; border: 1px solid #ccc;
               border-radius: 4px; background: #fff; cursor: pointer}
#heads button[aria-pressed=true] {border-color: #D55E00; box-shadow: 0 0 0 1px #D55E00}
#heads canvas {width: 100%; height: 100%; display: block; image-rendering: pixelated}
label {font-size: 13px}
select {max-width: 100%}
.text {margin: 8px 0; line-height: 1.75; overflow-wrap: anywhere;
       font-family: ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace}
.text span {white-space: pre-wrap; padding: .12em 1px; cursor: default;
            border-radius: 2px; margin-right: 1px}
.text span.chosen {outline: 2px solid #D55E00; position: relative}
#told {min-height: 4.6em; margin: 6px 0 8px; padding: 5px 8px; border-left: 3px solid #D55E00;
       background: #f6f6f6; font-size: 13px; overflow-wrap: anywhere}
#told b {font-family: ui-monospace, "DejaVu Sans Mono", monospace}
#map {display: block; width: 100%}
#map text {font: 8px ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace;
           fill: #444}
#row {stroke: #D55E00; stroke-width: 1.5}
"""

SCRIPT = """
const tokens = [...document.querySelectorAll(".text span")];
const rows = [...document.querySelectorAll("#map g")].map((g) => [...g.children]);
const layers = [...document.querySelectorAll("#heads div")]
  .map((row) => [...row.querySelectorAll("button")]);
const told = document.getElementById("told"), way = document.getElementById("way");
const frame = document.getElementById("row"), side = CELL;
let [layer, head, chosen] = data.show, pinned = -1;
const kind = (w) => Math.round(Math.sqrt(Math.min(w, 1000) / 1000) * (data.palette.length - 1));
const percent = (w) => w >= 10 ? `${Math.round(w / 10)}%` : `${(w / 10).toFixed(1)}%`;
const weight = (t, s) => data.weights[layer][head][t][s] ?? 0;
const bold = (k) => {
  const b = document.createElement("b");
  b.textContent = tokens[k].textContent;
  return b;
};
const draw = () => {
  const to = way.value === "to", n = tokens.length * side;
  const seen = tokens.map((_, k) => to ? weight(chosen, k) : weight(k, chosen));
  tokens.forEach((token, k) => {
    token.style.background = data.palette[kind(seen[k])];
    token.style.color = data.inks[kind(seen[k])];
    token.classList.toggle("chosen", k === chosen);
    token.ariaSelected = k === chosen;
    token.tabIndex = k === chosen ? 0 : -1;
  });
  const best = seen.map((w, k) => [w, k]).filter(([w]) => w >= 5).sort((a, b) => b[0] - a[0]);
  told.replaceChildren(`layer ${layer + 1}, head ${head + 1}: token ${chosen + 1}, `, bold(chosen),
    to ? ", looks at " : ", is looked at by ");
  best.slice(0, 5).forEach(([w, k], i) => told.append(i ? ", " : "", bold(k),
    ` (token ${k + 1}) ${to ? "" : "with "}${percent(w)}`));
  if (!best.length) told.append("nothing");
  else if (best.length > 5) told.append(` and ${best.length - 5} more`);
  const box = to ? {x: 0, y: chosen * side, width: n, height: side}
    : {x: chosen * side, y: 0, width: side, height: n};
  for (const key in box) frame.setAttribute(key, box[key]);
};
const fill = () => {
  rows.forEach((cells, t) => cells.forEach((cell, s) =>
    cell.setAttribute("fill", data.palette[kind(weight(t, s))])));
  layers.forEach((buttons, l) => buttons.forEach((button, h) =>
    button.setAttribute("aria-pressed", l === layer && h === head)));
  draw();
};
layers.forEach((buttons, l) => buttons.forEach((button, h) => {
  const canvas = button.firstChild, n = canvas.width = canvas.height = tokens.length;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ededed";
  pen.fillRect(0, 0, n, n);
  data.weights[l][h].forEach((row, t) => row.forEach((w, s) => {
    pen.fillStyle = data.palette[kind(w)];
    pen.fillRect(s, t, 1, 1);
  }));
  button.title = button.ariaLabel;
  button.addEventListener("click", () => { [layer, head] = [l, h]; fill(); });
}));
const choose = (k) => { chosen = k; draw(); };
tokens[0].parentNode.setAttribute("role", "listbox");
tokens[0].parentNode.ariaLabel = "tokens";
tokens.forEach((token, k) => {
  token.setAttribute("role", "option");
  token.addEventListener("mouseenter", () => { if (pinned < 0) choose(k); });
  token.addEventListener("click", () => { pinned = pinned === k ? -1 : k; choose(k); });
  token.addEventListener("focus", () => choose(k));
});
rows.forEach((cells, t) => cells.forEach((cell, s) => cell.addEventListener("mouseenter", () => {
  if (pinned < 0) choose(way.value === "to" ? t : s);
})));
way.addEventListener("change", draw);
document.addEventListener("keydown", (event) => {
  if (!tokens.includes(document.activeElement)) return;
  const to = {ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: tokens.length - 1};
  if (!(event.key in to)) return;
  event.preventDefault();
  tokens[Math.min(Math.max(to[event.key], 0), tokens.length - 1)].focus();
});
fill();
""".replace("CELL", str(CELL))

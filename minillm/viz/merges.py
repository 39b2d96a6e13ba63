"""Byte-pair encoding of a text, to step through."""

import html

from minillm.viz.merges_picture import merge_figure
from minillm.viz.merges_steps import Merge, label, merge_steps
from minillm.viz.tokens import BACKGROUNDS
from minillm.viz.view import View

__all__ = ["Merge", "MergesView", "merge_figure", "merge_steps"]


class MergesView(View):
    """Byte-pair encoding of a text to step through, by slider, buttons or arrow keys.

    Parameters
    ----------
    text, tokenizer : see `merge_steps`
    """

    title = "Byte-pair encoding, step by step"
    height = 300

    def __init__(self, text, tokenizer):
        self.text, self.tokenizer = text, tokenizer
        self.steps = merge_steps(text, tokenizer)
        self.bytes = sum(len(token) for word in self.steps[0].words for token in word)

    def __repr__(self):
        first, last = self.steps[0].tokens, self.steps[-1].tokens
        return f"{self.title}: {first} tokens, {last} after {len(self.steps) - 1} merges"

    def figure(self):
        """The picture of `merge_figure`."""
        return merge_figure(self.text, self.tokenizer)

    def data(self):
        """For each step what was joined, and the tokens as [label, colour, new]."""
        last = self.steps[-1].words
        return {
            "bytes": self.bytes,
            "steps": [
                {"pair": self._joins(step), "tokens": _coloured(step, last)} for step in self.steps
            ],
        }

    def _joins(self, step):
        if step.pair is None:
            return "" if step is self.steps[0] else "words that are tokens themselves"
        left, right = map(label, step.pair)
        joined = label(b"".join(step.pair))
        many = len(self.tokenizer.ranked_pairs())
        return f"{left} + {right} → {joined}, learned as merge {step.rank + 1:,} of {many:,}"

    def body(self):
        tokens = "".join(
            f'<span class="c{colour}">{html.escape(text)}</span><wbr>'
            for text, colour, _ in _coloured(self.steps[-1], self.steps[-1].words)
        )
        n = len(self.steps) - 1
        return (
            f"<h2>{html.escape(self.title)}</h2>"
            '<div id="bar"><button id="back" aria-label="one merge back">◀</button>'
            f'<input id="at" type="range" min="0" max="{n}" value="{n}" aria-label="merges done">'
            '<button id="on" aria-label="one merge on">▶</button></div>'
            f'<p id="says" aria-live="polite">{self.steps[-1].tokens} tokens after {n} merges, '
            f'from {self.bytes} bytes</p><p id="tokens">{tokens}</p>'
            '<svg id="curve" viewBox="0 0 600 98" role="img" aria-label="tokens by merge"></svg>'
            '<p class="note">Drag, or use the arrow keys. What was joined last is framed; '
            "two digits in hexadecimal are a byte that is no character by itself.</p>"
        )

    def style(self):
        colours = "".join(f".c{i} {{background: {c}}}\n" for i, c in enumerate(BACKGROUNDS))
        return (
            colours
            + """
#bar {display: flex; gap: 6px; align-items: center}
#at {flex: 1; min-width: 0}
#bar button {min-width: 40px; min-height: 32px}
#says {margin: 6px 0; min-height: 3em}
#tokens {line-height: 2.1; margin: 0 0 6px; overflow-wrap: anywhere}
#tokens span {padding: 2px 3px; margin-right: 2px; border-radius: 3px; color: #111;
              font-family: ui-monospace, "DejaVu Sans Mono", "Noto Sans CJK SC", monospace}
#tokens span.new {outline: 2px solid #D55E00}
#curve {display: block; width: 100%; max-width: 600px}
"""
        )

    def script(self):
        return """
const at = document.getElementById("at"), n = data.steps.length - 1;
const most = data.steps[0].tokens.length;
const x = k => 34 + k * 552 / Math.max(1, n), y = t => 76 - 66 * t / most;
const line = data.steps.map((s, k) => `${x(k)},${y(s.tokens.length)}`).join(" ");
const grey = 'fill="#6b6b6b" font-size="16"';
document.getElementById("curve").innerHTML =
  `<polyline points="${line}" fill="none" stroke="#0072B2" stroke-width="2"/>` +
  `<line x1="34" y1="76" x2="586" y2="76" stroke="#bbb"/>` +
  `<text x="30" y="14" text-anchor="end" ${grey}>${most}</text>` +
  `<text x="30" y="80" text-anchor="end" ${grey}>0</text>` +
  `<text x="586" y="94" text-anchor="end" ${grey}>merges: ${n}</text>` +
  `<text x="42" y="94" ${grey}>tokens</text>` +
  `<circle id="dot" r="5" fill="#D55E00"/>`;
function show() {
  const k = +at.value, step = data.steps[k], many = step.tokens.length;
  const box = document.getElementById("tokens");
  box.textContent = "";
  for (const [label, colour, fresh] of step.tokens) {
    const span = document.createElement("span");
    span.className = `c${colour}` + (fresh ? " new" : "");
    span.textContent = label;
    box.append(span, document.createElement("wbr"));
  }
  document.getElementById("says").textContent =
    (k ? `Merge ${k} of ${n}: ${step.pair}. ` : "Every byte for itself. ") +
    `${many} token${many === 1 ? "" : "s"}, ${(data.bytes / many).toFixed(2)} bytes each.`;
  const dot = document.getElementById("dot");
  dot.setAttribute("cx", x(k));
  dot.setAttribute("cy", y(many));
  document.getElementById("back").disabled = k === 0;
  document.getElementById("on").disabled = k === n;
}
const move = by => { at.value = Math.min(n, Math.max(0, +at.value + by)); show(); };
at.addEventListener("input", show);
document.getElementById("back").addEventListener("click", () => move(-1));
document.getElementById("on").addEventListener("click", () => move(1));
document.addEventListener("keydown", event => {
  if (event.target !== at && event.key === "ArrowLeft") move(-1);
  if (event.target !== at && event.key === "ArrowRight") move(1);
});
at.value = 0;
show();
"""


def _coloured(step, last):
    """The tokens of a step as [label, the colour of the token it ends up in, whether it is new]."""
    shown, colour = [], 0
    joined = None if step.pair is None else b"".join(step.pair)
    for parts, final in zip(step.words, last, strict=True):
        ends, total = [], 0
        for token in final:
            total += len(token)
            ends.append(total)
        stop = 0
        for token in parts:
            stop += len(token)
            place = next(i for i, end in enumerate(ends) if stop <= end)
            shown.append([label(token), (colour + place) % len(BACKGROUNDS), token == joined])
        colour += len(final)
    return shown

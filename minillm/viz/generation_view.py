"""A generation to step through: at each token what the model offered, and what was left to draw.

Of each candidate two bars: the model's own probability, and the one that it was drawn with after
temperature and cut-offs.
"""

import html
import math

from matplotlib.patches import Patch

from minillm.models.language_model import encode_prompt
from minillm.viz.generation_steps import generation_steps
from minillm.viz.ramp import CLASSES, ink_on, shade
from minillm.viz.style import COLOURS, GREY, new_figure, printable
from minillm.viz.tokens import visible
from minillm.viz.view import View

__all__ = ["GenerationView"]


class GenerationView(View):
    """Generates a text and shows each of its steps; it is the text that `generate` gives.

    Move with the slider, its arrow keys, the buttons, or by choosing a token of the text.

    Parameters
    ----------
    model : with `start`, `step`, `tokenizer` and `vocab_size`
    prompt : str; empty: the beginning of a document
    max_new_tokens : int
    seed : int, of the draws
    top : int >= 1, how many of the likeliest tokens are shown of each step
    stop_id : int or None, the token that ends the text
    settings : those of Sampling: temperature, top_k, top_p, min_p, repetition_penalty, greedy

    Attributes
    ----------
    steps : list of GenerationStep
    text : str, the prompt and what was generated

    Raises
    ------
    UserError
        as `generate` does, and for a prompt with characters that the model has never seen.
    ValueError
        if there is no step or no candidate to show.
    """

    height = 470
    title = "A generation, step by step"

    def __init__(
        self, model, prompt="", *, max_new_tokens=40, seed=0, top=10, stop_id=None, **settings
    ):
        if max_new_tokens == 0 or top < 1:
            raise ValueError(
                "max_new_tokens and top must be at least 1, "
                f"got {max_new_tokens} and {top}: there is nothing to show"
            )
        tokenizer = model.tokenizer
        self.prompt, self.settings, self.seed = prompt, settings, seed
        self.vocab_size = model.vocab_size
        ids = encode_prompt(tokenizer, prompt)
        self.steps = generation_steps(
            model,
            ids,
            max_new_tokens=max_new_tokens,
            top=top,
            rng=seed,
            stop_id=stop_id,
            **settings,
        )
        new = [step.id for step in self.steps if step.id != stop_id]
        self.text = tokenizer.decode([*ids.tolist(), *new])

    def how(self):
        """How the tokens were chosen, in words."""
        named = [
            name.replace("_", "-") if value is True else f"{name.replace('_', '-')} {value:g}"
            for name, value in self.settings.items()
            if value not in (None, False)
        ]
        drawn = "" if self.settings.get("greedy") else f", seed {self.seed}"
        return (", ".join(named) or "the model's own distribution") + drawn

    def body(self):
        last, first = len(self.steps) - 1, self.steps[0]
        tokens = "".join(self._token(k) for k in range(len(self.steps)))
        rows = "".join(_row(*row) for row in _rows(first))
        return (
            f'<h2>{html.escape(self.how())}</h2><p class="text"><i>'
            f"{html.escape(visible(self.prompt))}</i>{tokens}</p>"
            '<div class="note">darker: the model gave the token a lower probability</div>'
            '<div id="move"><button id="back" aria-label="one token back">◀</button>'
            f'<input id="at" type="range" min="0" max="{last}" value="0" aria-label="token">'
            '<button id="on" aria-label="one token on">▶</button></div>'
            f'<div id="said" aria-live="polite">{html.escape(_said(0, first, self.vocab_size))}'
            '</div><div class="note">probability: <i class="p"></i> the model\'s own, '
            '<i class="q"></i> drawn with, <i class="q it"></i> drawn</div>'
            f'<div id="rows">{rows}</div>'
        )

    def _token(self, k):
        step = self.steps[k]
        bits = -math.log2(step.p) if step.p > 0 else math.inf
        kind = round(min(bits / math.log2(max(self.vocab_size, 2)), 1) * (CLASSES - 1))
        end = "<br>" if step.name.endswith("⏎") else "<wbr>"
        title = html.escape(f"p = {step.p:.3g}, drawn with {step.q:.3g}")
        return f'<span class="s{kind}" title="{title}">{html.escape(step.name)}</span>{end}'

    def style(self):
        shades = [shade(i / (CLASSES - 1)) for i in range(CLASSES)]
        ramp = "\n".join(
            f".s{i} {{background: {c}; color: {ink_on(c)}}}" for i, c in enumerate(shades)
        )
        return STYLE + ramp

    def data(self):
        return [[_said(k, step, self.vocab_size), _rows(step)] for k, step in enumerate(self.steps)]

    def script(self):
        return SCRIPT

    def figure(self, steps=(0, 1, 2, 3), *, title=None):
        """The first steps, or the ones named, as a matplotlib Figure: a panel of bars each.

        Parameters
        ----------
        steps : numbers of steps, from 0; those that there are not are left out
        title : str or None
        """
        chosen = [self.steps[k] for k in steps if 0 <= k < len(self.steps)]
        if not chosen:
            raise ValueError(f"the generation has the steps 0 to {len(self.steps) - 1}: {steps}")
        most = max(len(step.candidates) for step in chosen)
        figure = new_figure(2.3 * len(chosen) + 0.7, 0.26 * most + 1.1)
        figure.suptitle(title or self.how(), fontsize=10)
        panels = figure.subplots(1, len(chosen), sharex=True, squeeze=False)[0]
        for axes, step in zip(panels, chosen, strict=True):
            _panel(axes, step)
        keys = [Patch(color=colour) for colour in ("0.75", COLOURS[0], COLOURS[1])]
        names = ["model's own", "drawn with", "drawn"]
        panels[0].legend(keys, names, loc="lower right", fontsize=7, frameon=False)
        figure.supxlabel("probability", fontsize=9, color=GREY)
        return figure

    def __repr__(self):
        return f"{self.how()}: {self.text!r}"


def _said(k, step, size):
    cut = f"{step.kept:,} of {size:,} tokens could come"
    mass = f", which the model gave {step.mass:.3f} together" if step.kept < size else ""
    return f"token {k + 1}: {step.name} (p = {step.p:.3g}, drawn with {step.q:.3g}); {cut}{mass}"


def _rows(step):
    """A row for each candidate: name, p, q, what is said beside it, and whether it came."""
    return [
        [c.name, round(c.p, 6), round(c.q, 6), f"cut: {c.cut}" if c.cut else "", c.drawn]
        for c in step.candidates
    ]


def _row(name, p, q, cut, drawn):
    """What the script makes of a row, for a page without scripts."""
    return (
        f'<div class="row{" drawn" * drawn}{" cut" * bool(cut)}"><b>{html.escape(name)}</b>'
        f'<span class="bars"><i class="q" style="width: {100 * q:.2f}%"></i>'
        f'<i class="p" style="width: {100 * p:.2f}%"></i></span>'
        f"<span>{p:.3f}</span><span>{cut or f'{q:.3f}'}</span></div>"
    )


def _panel(axes, step):
    names = [printable(c.name) for c in step.candidates]
    y = range(len(names))
    own, drawn_with = ([getattr(c, name) for c in step.candidates] for name in "pq")
    axes.barh([i + 0.2 for i in y], own, 0.3, color="0.75")
    bars = axes.barh([i - 0.2 for i in y], drawn_with, 0.42)
    for bar, c in zip(bars, step.candidates, strict=True):
        bar.set_color(COLOURS[1] if c.drawn else COLOURS[0])
    for i, c in enumerate(step.candidates):
        if c.cut:
            axes.text(c.p, i + 0.05, f" {c.cut}", fontsize=6.5, color=GREY, va="center")
    axes.set_yticks(list(y), names, fontsize=8)
    for label, c in zip(axes.get_yticklabels(), step.candidates, strict=True):
        label.set_color(COLOURS[1] if c.drawn else "black")
        label.set_fontweight("bold" if c.drawn else "normal")
    axes.invert_yaxis()
    axes.set_title(f"→ {printable(step.name)}   {step.kept:,} kept", fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7, colors=GREY)


STYLE = """
.text {margin: 0 0 4px; max-height: 12em; overflow: auto; line-height: 1.75;
       overflow-wrap: anywhere;
       font-family: ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace}
.text span {white-space: pre-wrap; padding: .12em 0; cursor: pointer}
.text span.chosen {outline: 2px solid #D55E00; outline-offset: 1px; position: relative}
.text i {color: #6b6b6b; font-style: normal}
#move {display: flex; gap: 8px; align-items: center; margin: 6px 0}
#move input {flex: 1; max-width: 34em; min-width: 0}
#said {font-size: 13px; min-height: 3em; overflow-wrap: anywhere}
#rows {display: grid; grid-template-columns: fit-content(9em) minmax(4em, 1fr) 3.2em 6em;
       column-gap: 6px; max-width: 40em; font-size: 12px; line-height: 1.5; align-items: center}
.row {display: contents}
.row b {font-family: ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere}
.bars {border-left: 1px solid #aaa}
.bars i {display: block; min-width: 1px}
i.q {height: 8px; background: #0072B2}
i.p {height: 4px; background: #8c8c8c}
.note i {display: inline-block; width: 18px; margin: 0 2px 1px 3px}
i.q.it {background: #D55E00}
.row.cut i.q {visibility: hidden}
.row.drawn, .row.drawn b {color: #A84300; font-weight: bold}
.row.drawn i.q {background: #D55E00}
.row.cut {color: #6b6b6b}
"""

SCRIPT = """
const tokens = [...document.querySelectorAll(".text span")];
const [at, said, rows] = ["at", "said", "rows"].map((id) => document.getElementById(id));
const make = (tag, text, kind) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const bar = (kind, share) => {
  const element = make("i", undefined, kind);
  element.style.width = `${100 * share}%`;
  return element;
};
const show = (k) => {
  k = Math.min(Math.max(k, 0), data.length - 1);
  at.value = k;
  at.setAttribute("aria-valuetext", data[k][0]);
  tokens.forEach((token, i) => token.classList.toggle("chosen", i === k));
  tokens[k].scrollIntoView({block: "nearest"});
  said.textContent = data[k][0];
  rows.replaceChildren(...data[k][1].map(([name, p, q, cut, drawn]) => {
    const row = make("div", undefined, `row${drawn ? " drawn" : ""}${cut ? " cut" : ""}`);
    const bars = make("span", undefined, "bars");
    bars.append(bar("q", q), bar("p", p));
    row.append(make("b", name), bars, make("span", p.toFixed(3)));
    row.append(make("span", cut || q.toFixed(3)));
    return row;
  }));
};
at.addEventListener("input", () => show(Number(at.value)));
document.getElementById("back").addEventListener("click", () => show(Number(at.value) - 1));
document.getElementById("on").addEventListener("click", () => show(Number(at.value) + 1));
tokens.forEach((token, k) => token.addEventListener("click", () => { show(k); at.focus(); }));
show(0);
"""

"""How a page of surprise looks, and what it does when a token is pointed at."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
.scale {display: block; width: 100%; max-width: 440px}
.scale text {font-size: 10px; fill: #444}
small {font-weight: normal; color: #6b6b6b}
section + section {margin-top: 10px}
.text {margin: 0; max-height: 22em; overflow: auto; line-height: 1.75; overflow-wrap: anywhere;
       font-family: ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace}
.text span {white-space: pre-wrap; padding: .12em 0; cursor: default}
.text span.part {font-size: 11px}
.text span.unknown {outline: 1px dashed #b00020}
.text span.chosen {outline: 2px solid #D55E00; outline-offset: 1px; position: relative}
.text i {color: #6b6b6b; font-style: normal}
#told {min-height: 8.2em; margin: 6px 0 8px; padding: 5px 8px; border-left: 3px solid #D55E00;
       background: #f6f6f6; font-size: 13px; overflow-wrap: anywhere}
#told b {font-family: ui-monospace, "DejaVu Sans Mono", monospace}
#told .bar {display: grid; grid-template-columns: 9em 1fr 4em; gap: 6px;
            max-width: 30em; line-height: 1.35; font-size: 12px}
#told .bar i {background: #56B4E9; height: .7em; align-self: center; min-width: 1px}
#told .bar.hit {font-weight: bold}
#told .bar.hit i {background: #D55E00}
"""

SCRIPT = """
const tokens = [...document.querySelectorAll(".text span")];
const told = document.getElementById("told");
let chosen = 0, pinned = false;
const make = (tag, text, kind) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const choose = (k) => {
  tokens[chosen].classList.remove("chosen");
  tokens[chosen].tabIndex = -1;
  chosen = k;
  tokens[k].classList.add("chosen");
  tokens[k].tabIndex = 0;
  const [name, bits, facts, best] = data[k];
  told.replaceChildren(make("b", name), ` ${bits}, ${facts}`);
  for (const [other, p, hit] of best) {
    const row = make("div", undefined, hit ? "bar hit" : "bar"), bar = make("i");
    bar.style.width = `${100 * p}%`;
    row.append(make("b", other), bar, make("span", p.toFixed(3)));
    told.append(row);
  }
};
tokens.forEach((token, k) => {
  token.removeAttribute("title");
  token.tabIndex = k ? -1 : 0;
  token.addEventListener("mouseenter", () => pinned || choose(k));
  token.addEventListener("click", () => { pinned = !pinned || k !== chosen; choose(k); });
  token.addEventListener("focus", () => choose(k));
});
document.addEventListener("keydown", (event) => {
  if (!tokens.includes(document.activeElement)) return;
  const to = {ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: tokens.length - 1};
  if (!(event.key in to)) return;
  event.preventDefault();
  tokens[Math.min(Math.max(to[event.key], 0), tokens.length - 1)].focus();
});
"""

"""The frame of all interactive views: a page of its own inside a notebook's output.

A view is HTML, inline SVG and plain JavaScript in an `<iframe srcdoc>`. Nothing is loaded from
anywhere, its style and names cannot meet the notebook's, and it works where a notebook is shown:
in JupyterLab, and in a page built from it.
"""

import html
import json

__all__ = ["View"]

STYLE = """
*, *::before, *::after {box-sizing: border-box}
body {margin: 0; padding: 10px 12px; background: #fff; color: #222; overflow-x: hidden;
      font: 14px/1.5 system-ui, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", sans-serif}
h2 {font-size: 15px; margin: 0 0 6px}
button, select, input {font: inherit; accent-color: #0072B2}
:focus-visible {outline: 2px solid #D55E00; outline-offset: 1px}
svg {max-width: 100%; height: auto}
.note {color: #6b6b6b; font-size: 12px}
"""

# The frame is as high as what is in it, on a phone too; where the page around it does not allow
# that, it keeps its height and scrolls.
FIT = """
(() => {
  const fit = () => {
    const height = Math.ceil(document.body.getBoundingClientRect().height) + 2;
    try { frameElement.style.height = height + "px"; } catch (error) {}
  };
  new ResizeObserver(fit).observe(document.body);
  addEventListener("load", fit);
})();
"""


class View:
    """A base for interactive views; it shows itself in a notebook.

    A subclass gives `title` (str), `height` (pixels, before the frame has measured itself) and

    - `body()`, HTML that says something without JavaScript too: a static picture in inline SVG, or
      text; it escapes what it shows (`html.escape`);
    - `style()`, CSS beside the common one;
    - `script()`, JavaScript that runs last, with the constant `data`, the value of
    - `data()`, anything that JSON can hold;
    - `figure()`, the same as a matplotlib Figure, for print.
    """

    title = "minillm"
    height = 320

    def body(self):
        raise NotImplementedError(f"{type(self).__name__} must say what its page shows")

    def style(self):
        return ""

    def script(self):
        return ""

    def data(self):
        return None

    def figure(self):
        raise NotImplementedError(f"{type(self).__name__} has no static picture")

    def page(self):
        """The whole page, for a file of its own or for the frame."""
        # "<" never stands in the data, so no text in it can end the script
        data = json.dumps(self.data(), ensure_ascii=False).replace("<", "\\u003c")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}{self.style()}</style></head>"
            f"<body>{self.body()}"
            f"<script>{FIT}</script><script>(() => {{const data = {data};\n{self.script()}}})();"
            "</script></body></html>\n"
        )

    def _repr_html_(self):
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.page())}" '
            f'style="width: 100%; height: {self.height}px; border: 1px solid #ddd; '
            'border-radius: 6px; background: #fff" loading="lazy"></iframe>'
        )

"""How a run looks while it lasts: a bar on a terminal or in a notebook, plain lines elsewhere."""

import html
import sys
import time
from importlib import import_module

from tqdm import tqdm

__all__ = ["Progress", "track"]

EVERY = 0.2  # seconds between two updates in a notebook


class Progress:
    """Shows where a run stands.

    Parameters
    ----------
    steps : int, where it ends
    start : int, where it begins
    visible : bool, False shows nothing
    stream : file or None, sys.stdout by default; a terminal gets a bar
    """

    def __init__(self, steps, start=0, visible=True, stream=None):
        self.steps, self.start, self.visible = steps, start, visible
        self.stream = stream or sys.stdout
        self.began = time.perf_counter()
        self.bar = None
        if visible and in_notebook():
            self.bar = NotebookBar(steps, start)
        elif visible and self.stream.isatty():
            self.bar = tqdm(
                total=steps, initial=start, unit="step", file=self.stream, dynamic_ncols=True
            )

    def advance(self, step):
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def show(self, line):
        """Show a line of the metrics log."""
        text = _describe(line)
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        if self.bar is not None or not self.visible:
            return
        done = line["step"] - self.start
        left = ""
        if done > 0:
            seconds = (time.perf_counter() - self.began) * (self.steps - line["step"]) / done
            left = f"  {_clock(seconds)} left"
        print(f"step {line['step']}/{self.steps}  {text}{left}", file=self.stream, flush=True)

    def close(self):
        if self.bar is not None:
            self.bar.close()


class NotebookBar:
    """A bar in a notebook that leaves nothing behind, neither on the page nor in the saved file.

    tqdm's own bar there is a widget: it needs another package, and a saved notebook keeps its
    state, or a broken picture of it. This one is a line that is drawn over and at last taken away.
    """

    def __init__(self, total, start=0, what=""):
        self.total, self.n, self.what, self.text = total, start, what, ""
        self.start, self.began, self.drawn = start, time.perf_counter(), 0.0
        display = import_module("IPython.display").display
        self.handle = display(self._bundle(), raw=True, display_id=True)

    def update(self, more=1):
        self.n += more
        if time.perf_counter() - self.drawn > EVERY:
            self._draw()

    def set_postfix_str(self, text):
        self.text = text
        self._draw()

    def close(self):
        self.handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _draw(self):
        self.drawn = time.perf_counter()
        self.handle.update(self._bundle(), raw=True)

    def _bundle(self):
        seconds, done = time.perf_counter() - self.began, self.n - self.start
        words = [self.what, f"{self.n}" + (f"/{self.total}" if self.total else ""), self.text]
        if self.total and done > 0:
            words.append(f"{_clock(seconds * (self.total - self.n) / done)} left")
        line = "  ".join(word for word in words if word)
        share = f'value="{self.n}" max="{self.total}"' if self.total else ""
        return {
            "text/plain": line,
            "text/html": f"<progress {share}></progress> <code>{html.escape(line)}</code>",
        }


def track(iterable, what="", *, total=None):
    """The items of an iterable, with a bar that goes away when they are done.

    Parameters
    ----------
    iterable : anything to loop over
    what : str, said beside the bar
    total : int or None, how many there will be, where the iterable cannot tell
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    if not in_notebook():
        yield from tqdm(iterable, what or None, total, leave=False, disable=None)  # off in a file
        return
    bar = NotebookBar(total, what=what)
    try:
        for item in iterable:
            yield item
            bar.update()
    finally:
        bar.close()


def in_notebook():
    """Whether this is a Jupyter kernel (a plain IPython shell is a terminal)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _describe(line):
    parts = []
    if line["train_loss"] is not None:
        parts.append(f"loss {line['train_loss']:.3f}")
    if line["validation_loss"] is not None:
        parts.append(f"validation {line['validation_loss']:.3f}")
    if line["tokens_per_second"] is not None:
        parts.append(f"{line['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)

"""How a run looks while it lasts: a bar on a terminal or in a notebook, plain lines elsewhere."""

import sys
import time

__all__ = ["Progress"]


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
        if visible and (in_notebook() or self.stream.isatty()):
            from tqdm.auto import tqdm  # chooses the notebook's own widget where it can

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
            left = f"  {int(seconds) // 60}:{int(seconds) % 60:02d} left"
        print(f"step {line['step']}/{self.steps}  {text}{left}", file=self.stream, flush=True)

    def close(self):
        if self.bar is not None:
            self.bar.close()


def in_notebook():
    """Whether this is a Jupyter kernel (a plain IPython shell is a terminal)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _describe(line):
    parts = []
    if line["train_loss"] is not None:
        parts.append(f"loss {line['train_loss']:.3f}")
    if line["validation_loss"] is not None:
        parts.append(f"validation {line['validation_loss']:.3f}")
    if line["tokens_per_second"] is not None:
        parts.append(f"{line['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)

"""Progress of work that may last: a bar, where a person watches."""

import contextlib
import sys

__all__ = ["showing"]


@contextlib.contextmanager
def showing(what, unit="", seconds=0.5):
    """Gives a function progress(done, total) that draws a bar on standard error, if a terminal.

    Nothing is drawn in the first `seconds`: quick work stays silent. total may be None.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    from tqdm import tqdm

    bar = tqdm(desc=what, unit=unit or "it", delay=seconds, leave=False, unit_scale=True)

    def progress(done, total=None):
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        bar.close()

"""Long work goes on when nobody reads its output any more (`minillm train ... | head`)."""

import contextlib
import os
import sys

__all__ = ["lasting_output"]


class _Lasting:
    """A stream whose reader may go away: from then on it writes to nowhere."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._try(self._stream.write, text) or len(text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, call, *args):
        try:
            return call(*args)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return None


@contextlib.contextmanager
def lasting_output():
    """Inside, a closed standard output is no error."""
    kept = sys.stdout
    sys.stdout = _Lasting(kept)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = kept

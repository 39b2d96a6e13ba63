"""Ctrl-C and SIGTERM as a wish to stop, heard between two steps."""

import contextlib
import signal
import threading

__all__ = ["StopRequest", "listening"]


class StopRequest:
    """`heard` is the name of the signal that came, or None."""

    heard: str | None = None


@contextlib.contextmanager
def listening():
    """While the block runs, the first signal is noted; a second one acts as it always did.

    Outside the main thread Python allows no handlers, and nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict = {}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number, frame):
        request.heard = signal.Signals(number).name
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):  # a shell's background job ignores Ctrl-C
            before[number] = handler
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()

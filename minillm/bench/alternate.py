"""Time two programs against each other on a machine that is never quite quiet.

Each side is a process of its own with its own number of threads. They take turns, A B A B, and
while one works the other sleeps, so that a slow minute of the machine slows both. Other programs
can only ever add time, so that the best of several rounds is the nearest to the truth.
"""

import json
import os
import subprocess
import sys

from minillm.errors import UserError

THREAD_SETTINGS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

ROUND_SECONDS = 0.7  # long enough to average over, short enough that the sides share their weather


class Side:
    """A child that prepares some work, then does one round of it whenever it is told to."""

    def __init__(self, side, threads, options, round_seconds, warm_up=None):
        environment = os.environ | dict.fromkeys(THREAD_SETTINGS, str(threads))
        request = {"side": side, "threads": threads, "options": options}
        request["round_seconds"] = round_seconds
        if warm_up is not None:
            request["warm_up"] = warm_up
        message = json.dumps(request)
        self.name, self.peak = side, None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minillm.bench.child", message],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ready(self):
        """Wait until the work is prepared and warm; returns what the child says of itself."""
        return self._read()

    def round(self):
        """Seconds for one piece of the work, the mean of a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self._read()
        self.peak = answer["peak"]
        return answer["seconds"]

    def _read(self):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"the benchmark's {self.name!r} side stopped: see its message above")
        return json.loads(line)

    def close(self):
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def alternate(sides, rounds, round_seconds=ROUND_SECONDS):
    """The best round of each side, in seconds.

    Parameters
    ----------
    sides : list of (side, threads, options)
    rounds : int
    round_seconds : float, about how long one round of one side takes

    Returns
    -------
    seconds : list of floats, one a side
    """
    return alternate_with_peaks(sides, rounds, round_seconds)[0]


def alternate_with_peaks(sides, rounds, round_seconds=ROUND_SECONDS, warm_up=None):
    """As `alternate`, and the peak memory of each side.

    Parameters
    ----------
    warm_up : int, calls of each side that do not count; 0 for work of many seconds, which has a
        call a round then; None: three

    Returns
    -------
    seconds : list of floats
    peaks : list of ints, bytes, or of None where the system does not tell
    """
    more = () if warm_up is None else (warm_up,)
    children = []
    try:
        for side, threads, options in sides:  # one after the other: preparing is work too
            children.append(Side(side, threads, options, round_seconds, *more))
            children[-1].ready()
        times = [[child.round() for child in children] for _ in range(rounds)]
    finally:
        for child in children:
            child.close()
    best = [min(column) for column in zip(*times, strict=True)]
    return best, [getattr(child, "peak", None) for child in children]

"""One side of a comparison: prepare, warm up, then a round for every line on standard input.

`python -m minillm.bench.child '{"side": ..., "threads": ..., "options": ..., "warm_up": ...}'`

Each answer has the peak of the process's memory while it worked, in bytes; a program that it
started counts with its own.
"""

import contextlib
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path

WARM_UP = 3  # calls


def main(message):
    # the answers go out by a copy of standard output; what a library prints goes to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(message)
    module, function = request["side"].split(":")
    make = getattr(importlib.import_module(f"minillm.bench.{module}"), function)
    work, pieces = make(request["threads"], **request["options"])
    once = request["round_seconds"]  # without a warm-up, a round is one call
    forget_peak()
    for _ in range(request.get("warm_up", WARM_UP)):
        start = time.perf_counter()
        work()
        once = time.perf_counter() - start
    calls = max(1, round(request["round_seconds"] / once))

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    answer(ready=True, calls=calls)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        answer(seconds=(time.perf_counter() - start) / calls / pieces, peak=peak())


def forget_peak():
    """Let the peak begin anew at what is held now: preparing is not measured. Linux alone can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak():
    """The most memory that was resident at once, in bytes; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        return None
    import resource  # there is none on Windows, which has no /proc either

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return 1024 * max(int(found[1]), children)


if __name__ == "__main__":
    main(sys.argv[1])

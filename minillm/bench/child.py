"""One side of a comparison: prepare, warm up, then a round for every line on standard input.

`python -m minillm.bench.child '{"side": ..., "threads": ..., "options": ...}'`
"""

import importlib
import json
import os
import sys
import time

WARM_UP = 3  # calls


def main(message):
    # the answers go out by a copy of standard output; what a library prints goes to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(message)
    module, function = request["side"].split(":")
    make = getattr(importlib.import_module(f"minillm.bench.{module}"), function)
    work, pieces = make(request["threads"], **request["options"])
    for _ in range(WARM_UP):
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
        answer(seconds=(time.perf_counter() - start) / calls / pieces)


if __name__ == "__main__":
    main(sys.argv[1])

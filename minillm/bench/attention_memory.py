"""How much memory attention takes as the text gets longer.

`python -m minillm.bench.attention_memory [--json FILE]`. The plain op holds weights for every pair
of positions, so its peak grows with T**2; flash_attention holds one block of them (a fixed part,
which keeps its exponent a little below 1), so its peak grows with T. Both are the readable NumPy
pairs. Counted by tracemalloc is all that forward and backward hold at once, except their inputs;
bytes, not seconds, so a busy machine changes nothing.
"""

import argparse
import json
import math
import sys
import tracemalloc

import numpy as np

import minillm
from minillm.errors import UserError
from minillm.files import write_text
from minillm.ops import flash_attention, scaled_dot_product_attention

LENGTHS = (512, 1024, 2048, 4096)
SHAPE = {"batch": 1, "heads": 1, "width": 64}
OPS = {"flash": flash_attention, "plain": scaled_dot_product_attention}


def peak_bytes(op, length):
    """The most bytes that a causal forward and backward hold at once, inputs not counted."""
    rng = np.random.default_rng(length)
    shape = SHAPE["batch"], SHAPE["heads"], length, SHAPE["width"]
    q, k, v, dout = (rng.standard_normal(shape, dtype=np.float32) for _ in range(4))
    with minillm.backend("numpy"):
        tracemalloc.start()
        try:
            _, cache = op(q, k, v, causal=True)
            op.backward(dout, cache)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def measure(lengths=LENGTHS):
    """A row for each length; the exponent p is that of T**p from the row before it."""
    rows: list[dict] = []
    for T in lengths:
        row = {"T": T}
        for name, op in OPS.items():
            row[f"{name}_bytes"] = peak_bytes(op, T)
        for name in OPS:
            row[f"{name}_exponent"] = _exponent(rows[-1], row, f"{name}_bytes") if rows else None
        rows.append(row)
    return rows


def _exponent(before, after, key):
    return math.log(after[key] / before[key]) / math.log(after["T"] / before["T"])


def table(rows):
    lines = ["     T   flash MB     T^   plain MB     T^   plain / flash"]
    for row in rows:
        cells = [f"{row['T']:>6}"]
        for name in OPS:
            megabytes, exponent = row[f"{name}_bytes"] / 1e6, row[f"{name}_exponent"]
            cells += [f"{megabytes:>9.2f}", " " * 5 if exponent is None else f"{exponent:>5.2f}"]
        cells.append(f"{row['plain_bytes'] / row['flash_bytes']:>14.1f}")
        lines.append("  ".join(cells))
    return "\n".join(lines)


def main(argv=None):
    """Exit code 0: as claimed; 1: the peaks do not grow so; 2: the user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m minillm.bench.attention_memory", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    file = parser.parse_args(argv).json
    rows = measure()
    print("Peak memory of causal attention, forward and backward, float32,", end=" ")
    print(", ".join(f"{name} {n}" for name, n in SHAPE.items()))
    print(table(rows))
    if file is not None:
        try:
            write_text(file, json.dumps({**SHAPE, "rows": rows}, indent=1) + "\n")
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    flash, plain = (rows[-1][f"{name}_exponent"] for name in OPS)
    ok = flash < 1.1 and plain > 1.8  # linear, quadratic
    verdict = "as claimed" if ok else "NOT as claimed"
    print(f"In the last row flash grows as T^{flash:.2f}, plain as T^{plain:.2f}: {verdict}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

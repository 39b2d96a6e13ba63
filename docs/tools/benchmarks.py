"""Write docs/benchmarks.md from the recorded measurements in docs/benchmarks/*.json.

    python docs/tools/benchmarks.py            write the page
    python docs/tools/benchmarks.py --check    write nothing; exit with 1 where it is out of date

A recording is what `minillm bench ... --json FILE` wrote, perhaps in parts by `--match`, with the
date; rows that are not in it have not been recorded.
"""

import json
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
RECORDED = DOCS / "benchmarks"
PAGE = DOCS / "benchmarks.md"

ABOUT = {
    "cpu": (
        "Training and generating",
        "minillm bench cpu --json docs/benchmarks/cpu.json",
        "Beside PyTorch and transformers. The time is that of one training step, or of one "
        "generated token; the ratio is ours over theirs, so below 1 we are faster.",
    ),
    "classical": (
        "Counting, tokenizing, scoring",
        "minillm bench classical --json docs/benchmarks/classical.json",
        "Beside KenLM, NLTK, tokenizers, tiktoken, rouge_score and sacrebleu.",
    ),
}
HEAD = """# Benchmarks

Made by `python docs/tools/benchmarks.py` from what the commands below recorded; not by hand. Each
side ran in a process of its own, in turn, the best of several rounds counts, and both got the same
work. `must` and `aim` are the ratios that we set ourselves; what misses `must` is **bold**. The
GPU's kernels have [a page of their own](kernels-results.md), the gradient checker
[another](gradcheck-matrix.md).
"""


def page():
    return "\n".join([HEAD, *(section(name) for name in ABOUT)])


def section(name):
    title, command, about = ABOUT[name]
    path = RECORDED / f"{name}.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    machine, versions = recorded["machine"], recorded["versions"]
    by = ", ".join(f"{package} {number}" for package, number in versions.items())
    lines = [f"## {title}", "", f"`{command}`. {about}", ""]
    made = f"Recorded {recorded['recorded']} on {machine['processor']}, {machine['cores']} cores"
    lines += [f"{made}; {by}.", ""]
    return "\n".join(lines + table(recorded["rows"])) + "\n"


def table(rows):
    faster = "times_faster" in rows[0]
    ratio = "times faster" if faster else "ours / theirs"
    lines = [
        f"| work | beside | threads | ours | theirs | {ratio} | must | aim |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        value = row["times_faster" if faster else "ratio"]
        must = row.get("must")
        missed = must is not None and (value < must if faster else value > must)
        shown = number(value)
        cells = [row["work"], row["peer"], threads(row)]
        cells += [seconds(row["seconds"]), seconds(row["peer_seconds"])]
        cells += [f"**{shown}**" if missed else shown, number(must), number(row.get("aim"))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def threads(row):
    mine, theirs = row["threads"], row.get("peer_threads", row["threads"])
    return f"{mine}" if mine == theirs else f"{mine}, {theirs}"


def number(value):
    return "" if value is None else f"{value:.3g}"


def seconds(value):
    if value is None:
        return ""
    units = {"s": 1, "ms": 1e3, "µs": 1e6, "ns": 1e9}
    unit = next((unit for unit, factor in units.items() if value * factor >= 1), "ns")
    return f"{value * units[unit]:.3g} {unit}"


def main(argv):
    text = page()
    if argv == ["--check"]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/benchmarks.md is out of date: python docs/tools/benchmarks.py")
            return 1
        return 0
    if argv:
        print("usage: benchmarks.py [--check]", file=sys.stderr)
        return 2
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Results as tables: results/*.json into docs/kernels-results.md, and into each rung's header."""

import functools
import json
import math
import re
from pathlib import Path

from minillm.errors import UserError
from minillm.files import write_text
from minillm_kernels.bench.run import FORMAT, all_rows
from minillm_kernels.cuda.ladder import LADDERS

__all__ = ["NOT_YET", "RESULTS", "measure", "newest", "page", "read_results", "write"]

RESULTS = Path(__file__).resolve().parent.parent / "results"
NOT_YET = "not yet measured"


def read_results(paths):
    """The results in these files, oldest first.

    Raises
    ------
    UserError
        for a file that is missing, damaged, of another format, or of a rehearsal.
    """
    found = []
    for path in map(Path, paths):
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as results: {error}") from None
        if not isinstance(results, dict) or results.get("format") != FORMAT:
            raise UserError(f"{path} holds no results of the format {FORMAT}")
        if results["rehearsal"]:
            raise UserError(f"{path} was rehearsed on a CPU: it holds no times")
        found.append(results)
    return sorted(found, key=lambda results: results["date"])


def newest(all_results):
    """{key: (row's results, the results that they stand in)}, the newest of each row."""
    return {key: (row, r) for r in all_results for key, row in r["rows"].items()}


def measure(what, cases, machine):
    """A figure of a row, over its cases by their geometric mean; None where one was not timed.

    Parameters
    ----------
    what : "peer", "peer NAME", "copy", "peak", or the name of one of ours: its speed over the best
        peer's
    cases : list of dicts, as run.py writes them
    machine : the results' facts of the machine
    """
    logs = []
    for case in cases:
        ours = what if what in case["ours"] else None
        mine = _least(case, [ours] if ours else case["ours"])
        if what == "copy":
            other = case["amount"] / machine["copy_bytes_per_second"]
        elif what == "peak":
            mine, peak = _least(case, case["ours"][:1]), machine["peak_flop_per_second"]
            other = case["flop"] / peak if peak else None
        else:
            named = what.removeprefix("peer ")
            other = _least(case, [named] if what.startswith("peer ") else case["peers"])
        if mine is None or other is None:
            return None
        logs.append(math.log(other / mine))
    return math.exp(sum(logs) / len(logs)) if logs else None


def page(all_results):
    """The page docs/kernels-results.md."""
    rows, found = all_rows(), newest(all_results)
    lines = [
        "# The kernels' speed",
        "",
        "Written by `python -m minillm_kernels table` from the files in",
        "`kernels/minillm_kernels/results/`; a figure stands here only if it was measured.",
        "`python -m minillm_kernels bench` measures them all on the GPU at hand.",
        "",
        "A ratio is our speed over the other side's in the same process: the best of the vendor's",
        "backends unless one is named, or the time that a plain copy of the same bytes takes.",
        "Several sizes count by their geometric mean. A rung's share is that in its ladder's first",
        "size: of the vendor's library, or of the copy bandwidth for the ladders of rows.",
        "",
        *_machines(all_results),
        "| work | compared with | must | aim | measured | on |",
        "|---|---|---|---|---|---|",
    ]
    for row in (row for row in rows if row.ladder is None):
        for what in row.must | row.aim:
            lines.append(_table_line(row, what, found))
    lines += ["", "## Every size", "", "| work | size | ours | peers |", "|---|---|---|---|"]
    lines += [line for row in rows if row.ladder is None for line in _size_lines(row, found)]
    lines += [
        "",
        "## The ladders",
        "",
        "| ladder | rung | share | must | aim |",
    ]
    lines += ["|---|---|---|---|---|"]
    lines += [line for row in rows if row.ladder is not None for line in _rung_lines(row, found)]
    return "\n".join(lines) + "\n"


def write(all_results, target):
    """Write the page, and each measured rung's share into its header. Returns the files changed."""
    changed = []
    write_text(Path(target), page(all_results))
    changed.append(Path(target))
    found = newest(all_results)
    for row in (row for row in all_rows() if row.ladder is not None and row.key in found):
        cases = found[row.key][0]["cases"]
        for rung in map(functools.partial(LADDERS.find, row.ladder), row.rungs):
            share = _share(row, rung.name, cases, found[row.key][1])
            if share is None:
                continue
            text = rung.path.read_text(encoding="utf-8")
            figure = f"{100 * share:.0f} % ({found[row.key][1]['device']})"
            new = re.sub(r"(?m)^(// Share of [^:\n]*:).*$", rf"\1 {figure}", text, count=1)
            if new != text:
                write_text(rung.path, new)
                changed.append(rung.path)
    return changed


def _share(row, rung, cases, machine):
    """A rung's share of the best peer's speed, or of the copy bandwidth, in the first case."""
    first = [case | {"ours": [rung]} for case in cases[:1] if rung in case["ours"]]
    return measure(rung if row.share_of == "peer" else "copy", first, machine)


def _least(case, names):
    good = [name for name in names if name in case["seconds"] and name not in case["wrong"]]
    return min((case["seconds"][name]["median"] for name in good), default=None)


def _machines(all_results):
    lines = []
    for r in all_results:
        lines.append(
            f"- {r['date']}: {r['device']}, torch {r['torch']}, triton {r['triton']}, "
            f"CUDA {r['cuda']}, cuDNN {r['cudnn']}; "
            f"copy {r['copy_bytes_per_second'] / 1e9:.0f} GB/s, "
            f"bf16 product {r['gemm_flop_per_second'] / 1e12:.0f} TFLOP/s"
        )
    return [*lines, ""] if lines else ["No results are recorded yet.", ""]


def _table_line(row, what, found):
    names = {"peer": "the best peer", "copy": "copy bandwidth", "peak": "the chip's bf16 peak"}
    label = names.get(what, f"the best peer, ours: {what}")
    if what.startswith("peer "):
        label = what.removeprefix("peer ")
    must, aim = (_figure(limits.get(what)) for limits in (row.must, row.aim))
    value, where = NOT_YET, ""
    if row.key in found:
        results, whole = found[row.key]
        measured = measure(what, results["cases"], whole)
        if measured is not None:
            value, where = f"{measured:.2f}", whole["device"]
            if what in row.must and measured < row.must[what]:
                value = f"**{value}**"
    return f"| {row.work} | {label} | {must} | {aim} | {value} | {where} |"


def _size_lines(row, found):
    if row.key not in found:
        return [f"| {row.work} | all | {NOT_YET} | {NOT_YET} |"]
    return [
        f"| {row.work} | {case['name']} | {_speeds(row, case, 'ours')} "
        f"| {_speeds(row, case, 'peers')} |"
        for case in found[row.key][0]["cases"]
    ]


def _speeds(row, case, side):
    scale = {"TFLOP/s": 1e12, "GB/s": 1e9}.get(row.unit, 1)
    parts = []
    for name in case[side]:
        if name in case["wrong"]:
            parts.append(f"{name}: wrong result")
        elif name in case["seconds"]:
            seconds = case["seconds"][name]["median"]
            speed = case["amount"] / seconds / scale
            parts.append(f"{name}: {seconds * 1e3:.3f} ms, {speed:.4g} {row.unit}")
        else:
            parts.append(f"{name}: did not run")
    return "; ".join(parts)


def _rung_lines(row, found):
    results, machine = found.get(row.key, ({"cases": []}, {}))
    for rung in row.rungs:
        share = _share(row, rung, results["cases"], machine)
        value = NOT_YET if share is None else f"{100 * share:.0f} %"
        must, aim = (_figure(limits.get(rung)) for limits in (row.must, row.aim))
        yield f"| {row.work} | {rung} | {value} | {must} | {aim} |"


def _figure(value):
    return "" if value is None else f"{value:.2f}"

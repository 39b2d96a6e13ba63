"""Run notebooks top to bottom, check what they leave, and keep executed copies for the site.

    python notebooks/tools/execute.py                all of them, one after the other
    python notebooks/tools/execute.py 07 08          some
    python notebooks/tools/execute.py --jobs 2       two at a time
    python notebooks/tools/execute.py --twice 03     twice; both must give the same
    python notebooks/tools/execute.py --long 10      the long form, which records its results

A notebook fails if a cell raises an error or writes to stderr, if a cell tagged "picture" leaves
none, or if an exercise's check passes before the exercise is done. After its last cell each
exercise is done, in the notebook's own kernel: wrongly, and its check must raise an AssertionError;
then rightly, and it must pass.

The copies go to build/notebooks/, each with the hash of the source it was made from.
"""

import argparse
import asyncio
import dataclasses
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from percent import NOTEBOOKS, BadSource, read, solutions, sources, tags, text_of

OUT = NOTEBOOKS.parent / "build" / "notebooks"
TIMEOUT = 900  # seconds a cell
LONG_TIMEOUT = 7200
LEAST_PNG = 3000  # bytes; an empty figure of the usual size has fewer


@dataclasses.dataclass
class Report:
    """What came of a notebook: its seconds, its kernel's CPU seconds, pictures, what is wrong."""

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    pictures: int = 0
    exercises: int = 0
    problems: list = dataclasses.field(default_factory=list)


def source_hash(path):
    """Of all that a copy depends on in the notebooks' folder: its source."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def execute(path, *, long=False):
    """(executed notebook, Report) of a source; a problem in it is reported, not raised."""
    notebook, answers = read(path), solutions(path)
    report = Report(path.stem, exercises=len(answers))
    client = NotebookClient(
        notebook,
        timeout=LONG_TIMEOUT if long else TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        allow_errors=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    env = os.environ | {"MPLBACKEND": "Agg", "PYTHONHASHSEED": "0"}
    env.pop("MINILLM_LONG", None)
    if long:
        env["MINILLM_LONG"] = "1"
    count = len(notebook.cells)
    try:
        async with client.async_setup_kernel(env=env):
            began = time.perf_counter()
            for index in range(count):
                await run_cell(client, index)
            report.seconds = time.perf_counter() - began
            report.cpu = float(await ask(client, "import time as _t; print(_t.process_time())"))
            if not long:
                await check_exercises(client, notebook.cells[:count], answers, report)
    except (CellTimeoutError, DeadKernelError) as error:
        report.problems.append(str(error).strip().splitlines()[0])
    del notebook.cells[count:]
    inspect(notebook, report)
    return tidy(notebook, path), report


async def run_cell(client, index):
    cell = client.nb.cells[index]
    if cell.cell_type == "code":
        await client.async_execute_cell(cell, index)


async def ask(client, source):
    """What a cell that is not in the notebook prints."""
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    await run_cell(client, len(client.nb.cells) - 1)
    return "".join(out.get("text", "") for out in client.nb.cells[-1].outputs)


async def attempt(client, source):
    """The name of the error that a source raises in the notebook's kernel, or None."""
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    await run_cell(client, len(client.nb.cells) - 1)
    return error_of(client.nb.cells[-1])


async def check_exercises(client, cells, answers, report):
    """Do each exercise wrongly and rightly, and see whether its check can tell."""
    checks = {cell.metadata["exercise"]: cell.source for cell in cells if "check" in tags(cell)}
    for name in sorted(checks.keys() ^ answers.keys()):
        report.problems.append(f"exercise {name!r} is not in both the notebook and its solutions")
    for name in [name for name in checks if name in answers]:  # in the notebook's order, always
        for number, wrong in enumerate(answers[name]["wrong"], 1):
            error = await attempt(client, wrong) or await attempt(client, checks[name])
            if error is None or error[0] != "AssertionError":
                report.problems.append(f"{name}: wrong answer {number} gave {error}")
        error = await attempt(client, answers[name]["solution"])
        error = error or await attempt(client, checks[name])
        if error is not None:
            report.problems.append(f"{name}: the solution gave {error}")


def inspect(notebook, report):
    """Look through the outputs for errors, for noise and for missing pictures."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        where, error = first_line(cell), error_of(cell)
        if "check" in tags(cell):
            if error is None:
                report.problems.append(f"a check that is not yet done passed: {where}")
            elif error[0] != "NotImplementedError":
                report.problems.append(f"a check that is not yet done raised {error}: {where}")
        elif error is not None:
            report.problems.append(f"{error[0]}: {error[1]}, at: {where}")
        noise = [out.text for out in cell.outputs if out.get("name") == "stderr"]
        if noise:
            report.problems.append(f"stderr: {noise[0].strip()[-300:]!r}, at: {where}")
        if "picture" in tags(cell):
            shown = sum(is_picture(out) for out in cell.outputs)
            report.pictures += shown
            if not shown:
                report.problems.append(f"no picture, at: {where}")


def error_of(cell):
    for out in cell.outputs:
        if out.output_type == "error":
            return out.ename, out.evalue
    return None


def is_picture(out):
    """A PNG that is not empty, or an interactive view."""
    data = out.get("data", {})
    png = data.get("image/png", "")
    return len(png) * 3 // 4 > LEAST_PNG or "<iframe " in data.get("text/html", "")


def first_line(cell):
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return repr(lines[0] if lines else "")


def tidy(notebook, path):
    """Without what a reader of the site has no use for: checks' errors, bars that have gone."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            gone = "check" in tags(cell)
            cell.outputs = [out for out in cell.outputs if not gone and not is_empty(out)]
    notebook.metadata["source_sha256"] = source_hash(path)
    return notebook


def is_empty(out):
    data = out.get("data")
    return data is not None and not any(data.values())


def differences(first, second):
    """The cells whose outputs differ between two runs, but for those tagged "timing"."""
    for one, other in zip(first.cells, second.cells, strict=True):
        if one.cell_type == "code" and not tags(one) & {"timing", "check"}:
            mine, yours = comparable(one), comparable(other)
            if mine != yours:
                yield f"two runs differ, at: {first_line(one)}"


def comparable(cell):
    """All that a cell showed; an object's address in memory is none of it."""
    shown = []
    for out in cell.outputs:
        parts = out.get("data", {"text": out.get("text", "")})
        shown += [
            (kind, re.sub(r"0x[0-9a-f]{6,}", "0x", str(parts[kind]))) for kind in sorted(parts)
        ]
    joined = {}
    for kind, text in shown:  # a stream may come in more pieces or fewer
        joined[kind] = joined.get(kind, "") + re.sub(r"0x[0-9a-f]{6,}", "0x", text)
    return joined


async def execute_all(paths, *, jobs, twice, long, out):
    """Run notebooks, at most `jobs` at the same time; print a line for each. Their Reports."""
    free = asyncio.Semaphore(jobs)

    async def one(path):
        async with free:
            notebook, report = await execute(path, long=long)
            if twice and not report.problems:
                again, second = await execute(path)
                report.problems += second.problems + list(differences(notebook, again))
            if not report.problems and not long:
                out.mkdir(parents=True, exist_ok=True)
                write(out / f"{path.stem}.ipynb", text_of(notebook))
            show(report)
            return report

    return await asyncio.gather(*(one(path) for path in paths))


def write(path, text):
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def show(report):
    state = "FAILED" if report.problems else "ok"
    print(
        f"{report.name:24} {report.seconds:6.1f} s  {report.cpu:6.1f} s CPU  "
        f"{report.pictures:2} pictures  {report.exercises} exercises  {state}",
        flush=True,
    )
    for problem in report.problems:
        print(f"    {problem}", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="by number or name; all of them")
    parser.add_argument("--jobs", type=int, default=1, help="how many at the same time")
    parser.add_argument("--twice", action="store_true", help="run each twice and compare")
    parser.add_argument("--long", action="store_true", help="with MINILLM_LONG=1, which records")
    parser.add_argument("--stale", action="store_true", help="only those without a copy of today")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the executed copies")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    try:
        paths = sources(args.notebooks)
        if args.stale:
            paths = [path for path in paths if is_stale(path, args.out)]
        began = time.perf_counter()
        reports = asyncio.run(
            execute_all(
                paths, jobs=args.jobs, twice=args.twice, long=args.long, out=args.out.resolve()
            )
        )
    except BadSource as error:
        print(f"execute.py: {error}", file=sys.stderr)
        return 2
    failed = [report for report in reports if report.problems]
    seconds = time.perf_counter() - began
    print(f"{len(reports) - len(failed)} passed, {len(failed)} failed in {seconds:.0f} s")
    return 1 if failed else 0


def is_stale(path, out):
    copy = out / f"{path.stem}.ipynb"
    if not copy.exists():
        return True
    made = nbformat.read(copy, as_version=4).metadata.get("source_sha256")
    return made != source_hash(path)


if __name__ == "__main__":
    sys.exit(main())

"""The benchmark in a process of its own, begun anew after a row that crashed or never ended.

A kernel that reads what it must not makes the GPU unusable for its process, and one that waits for
itself never returns. Either costs its own row here, and not the rows after it.
"""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from minillm.files import write_text
from minillm_kernels.bench.run import check_gpu, select

__all__ = ["LOST", "SILENCE", "supervise"]

SILENCE = 150.0  # seconds without a line: compiling a whole GPT takes the most
AGREED = (0, 1, 2)  # exit codes of a process that came to its end, or was asked what cannot be done
LOST = 5  # of one whose GPU became unusable in a row that it has written
WORKER = (sys.executable, "-m", "minillm_kernels", "bench", "--here")
WARMER = (sys.executable, "-W", "ignore", "-m", "minillm_kernels.bench.warm")  # it forks


def supervise(
    path, *, match="", budget=570.0, report=print, worker=WORKER, warmer=WARMER, silence=SILENCE
):
    """Measure the rows as `run.run` does, in other processes.

    Parameters
    ----------
    path : where to write, or None
    match, budget, report : as in `run.run`
    worker : the command of such a process; it is given --json, --budget and --rows
    warmer : the command that compiles ahead what they will need, or None
    silence : float, seconds without a line after which a process is ended

    Returns
    -------
    failed : list of the keys of the rows that failed, crashed or did not end

    Raises
    ------
    UserError
        where no row matches, or there is no GPU.
    """
    rows, began = [row.key for row in select(match)], time.perf_counter()
    check_gpu()
    if warmer:
        _run([*warmer, match], report, silence)
    whole, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "part.json")
        while rows and (left := budget - (time.perf_counter() - began)) > 0:
            part.unlink(missing_ok=True)
            command = [*worker, "--json", str(part), "--budget", f"{left:.0f}"]
            command += ["--rows", ",".join(rows)]
            code = _run(command, report, silence)
            measured = json.loads(part.read_text()) if part.exists() else {"rows": {}}
            failed += [key for key, row in measured["rows"].items() if _wrong(row)]
            measured["rows"] = whole.get("rows", {}) | measured["rows"]
            whole = measured | {fact: value for fact, value in whole.items() if fact != "rows"}
            if path is not None and "format" in whole:
                write_text(Path(path), json.dumps(whole, indent=1) + "\n")
            rows = [key for key in rows if key not in whole["rows"]]
            if code in AGREED:
                break
            if rows and code != LOST:
                report(f"  {rows[0]} cost its process (code {code}); on with the next row")
                failed.append(rows.pop(0))
    return list(dict.fromkeys(failed))


def _wrong(row):
    """Whether a row has no case, or one in which ours failed or gave another result."""
    return not row["cases"] or any(case["wrong"] for case in row["cases"])


def _run(command, report, silence):
    """Run a process and report its lines; its exit code, or None where it was ended."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines = queue.Queue()

    def read():
        with process.stdout as out:
            for line in out:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    heard = time.perf_counter()
    try:
        while time.perf_counter() - heard < silence:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                if process.poll() is not None:  # a child of its may hold the pipe open
                    return process.returncode
                continue
            if line is None:
                return process.wait()
            report(line)
            heard = time.perf_counter()
        report(f"  no word for {silence:.0f} s")
        return None
    finally:
        process.kill()
        process.wait()

"""A ladder seen from below: what each rung's idea saves, counted by the emulator."""

import importlib
import re
import textwrap
from typing import Any

import numpy as np

from minillm.errors import UserError
from minillm.lines import aligned
from minillm_kernels.cuda.ladder import LADDERS
from minillm_kernels.emulator import checking

__all__ = ["climb", "look", "overview", "watch", "work"]

WIDTH = 96


def overview():
    """The ladders and their rungs, a line each."""
    parts = []
    for name in LADDERS:
        parts.append(name)
        parts += [f"  {rung.name:22}  {', '.join(rung.runs_on)}" for rung in LADDERS[name]]
    legend = (
        "Where a rung runs: sm_75 is the Turing generation of GPUs (T4), sm_80 Ampere (A100), "
        "sm_90 Hopper (H100); the emulator is any CPU. Next: ladder NAME, then ladder NAME RUNG."
    )
    return "\n".join([*parts, "", textwrap.fill(legend, WIDTH)])


def climb(name, *, size=128):
    """A table of a ladder: each rung's traffic at a small size, and what it was measured at.

    Parameters
    ----------
    name : str, a ladder
    size : int, the rows and columns of what it works on

    Raises
    ------
    UserError
        for another ladder.
    """
    head = ["rung", "global sectors", "a request", "shared wavefronts", "to conflicts", "share"]
    rows = [head]
    for rung in LADDERS[name]:
        if not rung.emulated:
            rows.append([rung.name, "-", "-", "-", "-", rung.share[1]])
            continue
        report = watch(rung, size)
        there = {
            place: [line for line in report.lines if line.memory == place]
            for place in ("global", "shared")
        }
        sectors, requests, waves, ideal = (
            sum(getattr(line, what) for line in there[place])
            for place, what in (
                ("global", "transfers"),
                ("global", "requests"),
                ("shared", "transfers"),
                ("shared", "ideal"),
            )
        )
        each = f"{sectors / requests:.1f}" if requests else "-"
        rows.append(
            [rung.name, f"{sectors:,}", each, f"{waves:,}", f"{waves - ideal:,}", rung.share[1]]
        )
    ideas = [
        textwrap.fill(
            f"{rung.name}: {_idea(rung)}", WIDTH, subsequent_indent="    ", break_on_hyphens=False
        )
        for rung in LADDERS[name]
    ]
    return "\n".join([aligned(rows), "", *ideas, "", _legend(LADDERS[name], size)])


def look(rung, *, size=128):
    """A rung's file with what the emulator counted beside each line that touches memory."""
    report = watch(rung, size)
    told: dict[int, list[str]] = {}
    for line in report.lines:
        unit = "sectors" if line.memory == "global" else "wavefronts"
        text = f"{line.memory}: {line.transfers / line.requests:.3g} {unit} a request"
        if line.kind:
            text += f", {line.ideal / line.requests:.3g} would do ({line.kind})"
        told.setdefault(line.line, []).append(text)
    source = rung.path.read_text(encoding="utf-8").splitlines()
    lines = []
    for number, text in enumerate(source, start=1):
        lines.append(f"{number:4}  {text}".rstrip())
        lines += [f"      {'':>{_indent(text)}}^ {note}" for note in told.get(number, ())]
    found = [str(finding) for finding in report.findings] or ["Nothing wrong was found."]
    legend = (
        f"Watched: one forward on {_of(rung, size)}; lines that it does not reach, those of a "
        "backward too, were not judged. A request is a warp's 32 threads at one access: of global "
        "memory it takes sectors (32 bytes each), of shared memory wavefronts (turns). A line with "
        "several accesses shows their mean; 4 bytes a thread need 4 sectors, 16 bytes 16."
    )
    return "\n".join([*lines, "", *found, textwrap.fill(legend, WIDTH)])


def watch(rung, size):
    """The emulator's report of one forward of a rung on random values.

    Raises
    ------
    UserError
        for a rung that the emulator cannot run.
    """
    if not rung.emulated:
        raise UserError(
            f"{rung} is out of the emulator's reach: it runs on {', '.join(rung.arches)}"
        )
    run = work(rung, size)
    with checking() as report:
        run()
    return report


def work(rung, size):
    """A function that runs a rung's forward once on NumPy arrays of about size x size."""
    rng = np.random.default_rng(0)
    dtype = np.float32 if "float32" in rung.dtypes else np.float16

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    ladder: Any = importlib.import_module(f"minillm_kernels.cuda.{rung.ladder}")
    if rung.ladder == "matmul":
        a, b = draw(size, size), draw(size, size)
        return lambda: ladder.matmul(a, b, rung=rung)
    if rung.ladder == "attention":
        q, k, v = (draw(1, 1, size, 64) for _ in range(3))
        return lambda: ladder.forward(rung, q, k, v, causal=True)
    given = {
        "softmax": (draw(size, size),),
        "layer_norm": (draw(size, size), draw(size), draw(size)),
        "cross_entropy": (draw(size, size), rng.integers(0, size, size)),
    }[rung.ladder]
    return lambda: ladder.forward(rung, *given)


def _idea(rung):
    """The header's paragraph `Idea:`."""
    text = "\n".join(rung.header)
    found = re.search(r"^Idea: (.*?)(?=^\S)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else rung.summary


def _legend(rungs, size):
    """What the columns mean."""
    of_what = " or ".join(dict.fromkeys(rung.share[0] for rung in rungs))
    return textwrap.fill(
        f"Counted by the emulator in one forward on {_of(rungs[0], size)}: sectors are pieces of "
        "32 bytes that a warp's request takes of global memory (all of them, and how many a "
        "request: at 4 bytes a thread 4 are best, at 16 bytes 16), wavefronts the turns that one "
        "takes of shared memory, conflicts the turns too many that banks cost. A rung marked - "
        f"runs on a GPU alone. Share: the rung's speed as a part of {of_what}.",
        WIDTH,
    )


def _of(rung, size):
    """What `work` draws for a rung, in words."""
    if rung.ladder == "attention":
        return f"{size} queries and keys of 64 channels"
    return f"{size} x {size}"


def _indent(text):
    return len(text) - len(text.lstrip())

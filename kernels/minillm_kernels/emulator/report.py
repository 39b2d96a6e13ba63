"""What a checked launch found, and how it is told.

with checking(seed=0) as report:
    kernel(grid, block, args)
report.raise_for_findings()
print(report)
"""

import contextlib
import contextvars
from dataclasses import dataclass

from minillm_kernels.emulator import checked
from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.emulator.page import render

__all__ = ["Finding", "LineCount", "Report", "active", "checking", "launch_report"]

_active = contextvars.ContextVar("emulator_report", default=None)


def active():
    """The report of the `checking` block we are in, or None."""
    return _active.get()


@dataclass
class Finding:
    """One mistake.

    Attributes
    ----------
    kind : "race", "out of bounds", "uninitialised shared memory", "barrier divergence", "warp",
        "misaligned", "undefined shuffle", "fault"
    file, line : where in the .cu file
    message : one sentence, with the lines, threads and bytes
    count : how often it was seen
    thread, block : of the first time
    other_line, other_thread, other_block : of a race, the access that comes first in a thread's
        course; something that orders them is missing between it and `line`
    within_warp : of a race, whether __syncwarp would do in the place of __syncthreads
    kernel : name
    """

    kind: str
    file: str
    line: int
    message: str
    count: int = 1
    thread: tuple | None = None
    block: tuple | None = None
    other_line: int | None = None
    other_thread: tuple | None = None
    other_block: tuple | None = None
    within_warp: bool = False
    kernel: str = ""

    @property
    def lines(self):
        """All lines that take part."""
        return {self.line} if self.other_line is None else {self.line, self.other_line}

    def __str__(self):
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.file}:{self.line}: {self.kind}: {self.message}{times}"


@dataclass
class LineCount:
    """What the accesses of one line of the .cu file cost, counted by the requests of whole warps.

    Attributes
    ----------
    memory : "shared" or "global"
    requests : of warps
    transfers : wavefronts of shared memory, or 32-byte sectors of global memory, that they took
    ideal : the fewest that the same bytes need
    bytes : that the lanes asked for
    """

    file: str
    line: int
    memory: str
    requests: int = 0
    transfers: int = 0
    ideal: int = 0
    bytes: int = 0

    @property
    def kind(self):
        """ "bank conflict", "uncoalesced", or None where nothing is lost."""
        if self.transfers <= self.ideal:
            return None
        return "bank conflict" if self.memory == "shared" else "uncoalesced"

    @property
    def bank_conflicts(self):
        """Wavefronts beyond the fewest; 0 of global memory."""
        return self.transfers - self.ideal if self.memory == "shared" else 0

    @property
    def sectors(self):
        """Sectors of global memory; 0 of shared memory."""
        return self.transfers if self.memory == "global" else 0

    @property
    def per_request(self):
        """Wavefronts, or sectors, that an average request takes."""
        return self.transfers / self.requests

    def __str__(self):
        what = "wavefronts" if self.memory == "shared" else "sectors"
        text = f"{self.file}:{self.line}: {self.memory} memory: {self.requests} requests, "
        text += f"{self.per_request:.4g} {what} each, {self.ideal / self.requests:.4g} at best"
        return text + (f"  <- {self.kind}" if self.kind else "")


class Report:
    """The findings and counts of the launches inside one `checking` block.

    Attributes
    ----------
    findings : list of Finding
    lines : list of LineCount, by line
    seed : of the threads' order; the same seed gives the same order and the same report
    launches : how many were checked
    sources : {file's name: its text}, for the page that a notebook shows
    """

    def __init__(self, seed, options):
        self.seed, self.options = seed, options
        self.findings, self._lines, self.launches = [], {}, 0
        self.sources = {}

    @property
    def lines(self):
        return [self._lines[key] for key in sorted(self._lines)]

    def counts(self, line):
        """The LineCounts of one line: of shared and of global memory, as far as there are."""
        return [count for count in self.lines if count.line == line]

    @property
    def bank_conflicts(self):
        """Of all lines."""
        return sum(count.bank_conflicts for count in self.lines)

    def run(self, kernel, grid, block, values, shared_mem):
        """Launch a kernel with every access watched."""
        self.launches += 1
        self.sources[kernel.module.name] = kernel.module.code
        launched = checked.Launch(kernel, shared_mem, self.options)
        try:
            launched.run(grid, block, values, self.seed)
        except EmulatorError as error:
            if error.kind != "checked":  # otherwise what stopped the launch is among the findings
                if error.line:
                    message = str(error).split(": ", 1)[1].removeprefix(f"{error.kind}: ")
                    found = Finding(error.kind, error.file, error.line, message, kernel=kernel.name)
                    self.findings.append(found)
                raise
        finally:
            self._take(launched)

    def _take(self, launched):
        found, costs = launched.results()
        launched.close()
        for fields in found:
            self._add(Finding(**fields))
        for file, line, memory, *numbers in costs:
            count = self._lines.setdefault((file, line, memory), LineCount(file, line, memory))
            count.requests += numbers[0]
            count.transfers += numbers[1]
            count.ideal += numbers[2]
            count.bytes += numbers[3]

    def _add(self, finding):
        """Take a finding in; one of the same lines is only counted."""
        for i, known in enumerate(self.findings):
            same = (known.kind, known.line, known.other_line, known.kernel)
            if same == (finding.kind, finding.line, finding.other_line, finding.kernel):
                count = known.count + finding.count
                if known.within_warp and not finding.within_warp:
                    self.findings[i] = finding
                self.findings[i].count = count
                return
        self.findings.append(finding)

    def raise_for_findings(self):
        """Raise an EmulatorError of the first finding, if there is one."""
        if self.findings:
            first = self.findings[0]
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            raise EmulatorError(
                f"{first.kind}: {first.message}{more}",
                kind=first.kind,
                file=first.file,
                line=first.line,
            )

    def _repr_html_(self):
        return render(self, self.sources)

    def __str__(self):
        launches = f"{self.launches} launch{'es' * (self.launches != 1)} checked, seed {self.seed}"
        if not self.launches:
            return "no launch was checked: nothing can be said"
        rows = [launches + (": nothing wrong was found" if not self.findings else "")]
        rows += [str(finding) for finding in self.findings]
        rows += [str(count) for count in self.lines]
        return "\n".join(rows)


@contextlib.contextmanager
def checking(
    *,
    races=True,
    bounds=True,
    uninitialised=True,
    banks=True,
    coalescing=True,
    sealed=False,
    seed=0,
):
    """Check every launch inside: kernels run instrumented, on one core, on copies of the arrays.

    Parameters
    ----------
    races, bounds, uninitialised : what to look for
    banks, coalescing : what to count, line by line
    sealed : whether to stop a launch at the first index outside an array, write through a pointer
        to a stack, or access between the file's variables: where a kernel could change what is
        counted. Needs bounds. No sandbox by itself: a write through a pointer to a local variable
        may be one that g++ does not report, so the .cu file must make none
    seed : of the order of threads and blocks

    Yields
    ------
    report : Report
    """
    options = {
        "races": races,
        "bounds": bounds,
        "uninitialised": uninitialised,
        "banks": banks,
        "coalescing": coalescing,
        "sealed": sealed,
    }
    report = Report(seed, options)
    token = _active.set(report)
    try:
        yield report
    finally:
        _active.reset(token)


def launch_report(kernel, grid, block, args, *, shared_mem=0, **checks):
    """Launch once with every access checked.

    Parameters
    ----------
    kernel, grid, block, args, shared_mem : as in a launch
    checks : of `checking`

    Returns
    -------
    report : Report
    """
    with checking(**checks) as report:
        kernel(grid, block, args, shared_mem=shared_mem)
    return report

"""The pytest plugin: the fixture `gradcheck`, its marker and the options `--gradcheck-...`.

A check that does not pass fails its test with the report alone, no traceback of the checker. The
reports travel to the JSON file as attributes of pytest's own reports, which pytest-xdist carries
from its workers as well. The checker itself is imported when a test asks for the fixture.
"""

import argparse
import json
import os
import shlex
import types
from pathlib import Path
from typing import Any

import pytest

from minillm.gradcheck.report import INCONCLUSIVE, PASS, GradientError, Report

MARKER = "gradcheck(inconclusive_ok=True): an inconclusive gradient check does not fail this test"


class Run:
    """What the checks of this process share: the options, the test that runs, its reports."""

    def __init__(self, config):
        self.seed = config.getoption("gradcheck_seed") or 0
        self.full = config.getoption("gradcheck_full")
        self.keep = config.getoption("gradcheck_json") is not None
        self.item: Any = None
        self.reports: list[
            tuple[Report, bool]
        ] = []  # (report, inconclusive_ok) since the last of pytest's own reports

    def inconclusive_ok(self):
        """What the running test's marker says."""
        __tracebackhide__ = True
        marker = self.item.get_closest_marker("gradcheck")
        if marker is None:
            return False
        if marker.args or not marker.kwargs.keys() <= {"inconclusive_ok"}:
            given = [*map(repr, marker.args), *(f"{k}={v!r}" for k, v in marker.kwargs.items())]
            raise ValueError(
                "pytest.mark.gradcheck takes inconclusive_ok=True and nothing else, got "
                + ", ".join(given)
            )
        return marker.kwargs.get("inconclusive_ok", False)

    def has(self, report):
        return any(kept is report for kept, _ in self.reports)

    def command(self, item, report):
        """The line that runs this test again as it ran here."""
        path, separator, test = item.nodeid.partition("::")
        path = _relative(item.config, item.config.rootpath / path)
        options = [f"--gradcheck-seed={self.seed}"] if self.has(report) else []
        options += ["--gradcheck-full"] if self.full and self.has(report) else []
        return shlex.join(["pytest", path + separator + test, *options])

    def take(self, item):
        """The reports so far as JSON texts, where a file of them is wanted; then forget them."""
        entries = []
        for report, inconclusive_ok in self.reports if self.keep else ():
            entry = {"test": item.nodeid, "inconclusive_ok": inconclusive_ok}
            entries.append(json.dumps(entry | {"report": report.to_dict()}, ensure_ascii=False))
        self.reports = []
        return entries


RUN = pytest.StashKey[Run]()


class Checks:
    """The checks with this run's seed and scope; each returns its report or fails the test.

    Every method takes what the function of minillm.gradcheck that it is named after takes, and
    `inconclusive_ok`, which goes before the marker. A seed given in the call is kept;
    `--gradcheck-full` goes before a scope given there. Calling the object itself is `vjp`.
    """

    def __init__(self, run):
        self._run = run

    def __repr__(self):
        return f"<gradcheck with seed {self._run.seed}>"

    def __call__(self, forward, backward, args, *more, **options):
        __tracebackhide__ = True
        return self.vjp(forward, backward, args, *more, **options)

    def vjp(self, forward, backward, args, *more, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.check import check_vjp

        return self._passes(check_vjp, (forward, backward, args, *more), options)

    def function(self, f, vjp, args, *more, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.check import check_function

        return self._passes(check_function, (f, vjp, args, *more), options)

    def op(self, op, *more, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.check import check_op

        return self._passes(check_op, (op, *more), options)

    def layer(self, layer, *inputs, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.check import check_layer

        return self._passes(check_layer, (layer, *inputs), options)

    def torch(self, function, args, *more, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.adapters import check_torch

        return self._passes(check_torch, (function, args, *more), options)

    def module(self, module, args, *more, **options):
        __tracebackhide__ = True
        from minillm.gradcheck.adapters import check_module

        return self._passes(check_module, (module, args, *more), options)

    def draw(self, *shapes, **options):
        """The arrays of `minillm.gradcheck.draw`, with this run's seed."""
        from minillm.gradcheck.drawing import draw

        return draw(*shapes, **{"seed": self._run.seed} | options)

    def _passes(self, check, args, options):
        __tracebackhide__ = True
        run = self._run
        inconclusive_ok = options.pop("inconclusive_ok", None)
        if inconclusive_ok is None:
            inconclusive_ok = run.inconclusive_ok()
        options.setdefault("seed", run.seed)
        if run.full:
            options["scope"] = "full"
        report = check(*args, **options)
        run.reports.append((report, bool(inconclusive_ok)))
        report.raise_unless_passed(inconclusive_ok=inconclusive_ok)
        return report


# Of the session, though it follows the running test: Hypothesis refuses fixtures made anew for each
# test, as one serves all examples.
@pytest.fixture(scope="session")
def gradcheck(pytestconfig):
    """Check gradients: gradcheck(forward, backward, args), gradcheck.op(op, ...), .function, ..."""
    return Checks(pytestconfig.stash[RUN])


def pytest_addoption(parser):
    group = parser.getgroup("gradcheck", "gradient checks with minillm.gradcheck")
    group.addoption(
        "--gradcheck-seed",
        type=_seed,
        metavar="N",
        help="seed of the checks' random directions (default: 0)",
    )
    group.addoption(
        "--gradcheck-full", action="store_true", help="check every element of every gradient"
    )
    group.addoption("--gradcheck-json", metavar="FILE", help="write all reports of the run to FILE")


def pytest_configure(config):
    config.addinivalue_line("markers", MARKER)
    config.stash[RUN] = Run(config)
    file = config.getoption("gradcheck_json")
    a_worker_of_xdist = hasattr(config, "workerinput")
    if file is not None and not a_worker_of_xdist and not config.getoption("collectonly"):
        writer = JsonFile(config, file)
        config.pluginmanager.register(writer, "gradcheck-json-file")


def pytest_report_header(config):
    run, given = config.stash[RUN], config.getoption("gradcheck_seed") is not None
    parts = [f"seed {run.seed}"] * given + ["every element"] * run.full
    return f"gradcheck: {', '.join(parts)}" if parts else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.config.stash[RUN].item = item


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    run, error = item.config.stash[RUN], call.excinfo and call.excinfo.value
    if isinstance(error, GradientError):
        if not item.config.getoption("fulltrace"):
            report.longrepr = _readable(item, call.excinfo, run)
        if not run.has(error.report):  # raised by the test itself
            run.reports.append((error.report, False))
    report.gradcheck = run.take(item)


class JsonFile:
    """Collects the reports of the run and writes them at its end, whole or not at all."""

    def __init__(self, config, file):
        self.run, self.problem = config.stash[RUN], ""
        self.entries: list[str] = []
        self.name, self.path = file, (config.invocation_params.dir / file).resolve()
        self.temporary = self.path.parent / f".unfinished-{self.path.name}-{os.getpid()}"
        try:
            if self.path.exists() and not self.path.is_file():
                raise OSError(0, "it exists and is no plain file")
            self.temporary.touch()
            self.temporary.unlink()
        except OSError as error:
            raise pytest.UsageError(self._cannot(error)) from error

    def pytest_runtest_logreport(self, report):
        self.entries += getattr(report, "gradcheck", [])

    def pytest_sessionfinish(self, session):
        scope = "full" if self.run.full else "default"
        reports = [json.loads(entry) for entry in self.entries]
        document = {"seed": self.run.seed, "scope": scope, "reports": reports}
        try:
            self._write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            self.problem = self._cannot(error)
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR

    def pytest_terminal_summary(self, terminalreporter):
        n = len(self.entries)
        wrote = f"gradcheck: {n} report{'s' * (n != 1)} in {self.name}"
        terminalreporter.write_line(self.problem or wrote, red=bool(self.problem))

    def _write(self, text):
        try:
            with open(self.temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)
        except BaseException:
            self.temporary.unlink(missing_ok=True)
            raise

    def _cannot(self, error):
        return f"--gradcheck-json: cannot write {self.name}: {error.strerror or error}"


def _seed(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def _readable(item, excinfo, run):
    """The report in place of the traceback; pytest shows it as what `pytest.fail` was told."""
    report, place = excinfo.value.report, _asked(excinfo.tb)
    file = _relative(item.config, place.tb_frame.f_code.co_filename)
    lines = [
        str(report),
        f"  pytest: {run.command(item, report)}",
        f"  at {file}:{place.tb_lineno}",
    ]
    if report.verdict == INCONCLUSIVE:
        lines += [
            "  if that is all one can know here: @pytest.mark.gradcheck(inconclusive_ok=True)"
        ]
    lines += getattr(excinfo.value, "__notes__", [])  # Hypothesis tells the failing case in them
    failure = pytest.fail.Exception("\n".join(lines), pytrace=False)
    shown = item.repr_failure(pytest.ExceptionInfo.from_exc_info((type(failure), failure, place)))
    if getattr(shown, "reprcrash", None):
        leaves = ", ".join(leaf.name for leaf in report.leaves if leaf.verdict != PASS)
        shown.reprcrash.message = f"{report.subject}: {report.verdict.upper()} {leaves}".rstrip()
    return shown


def _asked(traceback):
    """The traceback's last entry outside of the checker: who asked for the check."""
    place = traceback
    while traceback is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith("minillm.gradcheck."):
            place = traceback
        traceback = traceback.tb_next
    return types.TracebackType(None, place.tb_frame, place.tb_lasti, place.tb_lineno)


def _relative(config, path):
    """A path as one types it where pytest was started."""
    return os.path.relpath(Path(path), config.invocation_params.dir)

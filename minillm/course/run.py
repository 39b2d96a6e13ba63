"""Running the checks of an assignment on one submission after the other.

Every submission meets the same cases, drawn from the seed at grading time, so the reference answers
them once. What a student's process sends is compared here; it never holds an answer.
"""

import inspect
import threading
import time
import zlib
from dataclasses import dataclass, field

import numpy as np

from minillm.course import drive, explain, results
from minillm.course.cost import measured
from minillm.course.kinds import Runnable, runnables
from minillm.course.modules import Modules
from minillm.course.reference import Reference
from minillm.course.results import CheckResult, Grade
from minillm.course.sandbox import Fault, Limits

__all__ = ["Grader", "Plan"]

STATUS = {
    "not implemented": results.STUB,
    "raised": results.CRASHED,
    "ended": results.CRASHED,
    "time": results.TIME,
    "memory": results.MEMORY,
}


@dataclass
class Plan:
    """An assignment in one variant, ready to run; its cases and answers are made once."""

    modules: Modules
    reference: Reference
    checks: dict[str, list[Runnable]]
    answers: dict = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, run, seed, size):
        """(case, expected) of one check at one size."""
        key = run.task, run.draws, seed, size
        with self.lock:
            if key not in self.answers:
                case = run.make(_rng(run, seed, size), size)
                self.answers[key] = case, run.expected(case)
            return self.answers[key]


class Grader:
    """Grades submissions of one assignment.

    Parameters
    ----------
    assignment : Assignment
    sandbox : Sandbox
    seed : int, of all cases
    explained : bool, whether a failure is looked into: smallest case, values on the way, diagnosis
    """

    def __init__(self, assignment, sandbox, *, seed, explained=True):
        self.assignment, self.sandbox, self.seed = assignment, sandbox, seed
        self.explained = explained
        self.plans: dict[str, Plan] = {}
        self.lock = threading.Lock()

    def plan(self, variant=None):
        """The Plan of a variant."""
        with self.lock:
            key = repr(sorted((variant or {}).items()))
            if key not in self.plans:
                modules = Modules(self.assignment, variant)
                reference = Reference(self.assignment, modules)
                checks = {
                    task.name: runnables(self.assignment, task, reference, variant)
                    for task in self.assignment.tasks
                }
                self.plans[key] = Plan(modules, reference, checks)
            return self.plans[key]

    def grade(self, student, files, *, variant=None, tasks=None, progress=None):
        """The Grade of one submission.

        Parameters
        ----------
        student : str
        files : {name: bytes}, those of its files that the assignment asks for
        variant : {task: {keyword: value}}
        tasks : names of tasks, None for all; the others' checks are "not run"
        progress : function progress(task, check's title), called before each check
        """
        start = time.perf_counter()
        plan = self.plan(variant)
        grade = Grade(
            student, self.assignment.name, self.assignment.version, self.seed, dict(variant or {}),
            self.sandbox.isolation.sentence,
        )  # fmt: skip
        for task in self.assignment.tasks:
            checks = plan.checks[task.name]
            if tasks is not None and task.name not in tasks:
                grade.results += [_result(run, results.NOT_RUN) for run in checks]
            elif not _handed_in(plan.modules, task, files):
                asked = [
                    f for f, owners in plan.modules.tasks_of_file.items() if task.name in owners
                ]
                reason = f"{' and '.join(asked)} was not handed in"
                grade.results += [_result(run, results.MISSING, reason) for run in checks]
            else:
                grade.results += self._task(plan, task, files, checks, progress)
        grade.seconds = time.perf_counter() - start
        return grade

    def _task(self, plan, task, files, checks, progress):
        there, replace = plan.modules.child_files(task.name, files)
        limits = Limits(
            seconds=task.seconds,
            memory=int(self.assignment.memory * (1 << 30)),
            processes=self.assignment.processes,
        )
        with self.sandbox.child(
            there,
            replace=replace,
            drivers=self._drivers(),
            limits=limits,
            packages=self.assignment.packages,
        ) as child:
            found: list[CheckResult] = []
            costs: dict[str, tuple] = {}
            for run in checks:
                if progress:
                    progress(task.name, run.title)
                start = time.perf_counter()
                child.forget()
                result = self._check(plan, run, child, costs)
                seconds = round(time.perf_counter() - start, 3)
                found.append(
                    CheckResult(**(vars(result) | {"seconds": seconds}))  # the dataclass is frozen
                )
            return found

    def _drivers(self):
        """The text of the general drivers, and then of the assignment's own."""
        own = self.assignment.folder / "drive.py"
        texts = [inspect.getsource(drive)]
        if own.is_file():
            texts.append(own.read_text(encoding="utf-8"))
        return "\n\n".join(texts)

    def _check(self, plan, run, child, costs):
        """One check. A gradient counts only where its cost is that of a derived one.

        `costs` keeps what is measured for each op.
        """

        def cost(plan, run, child, seed):
            if run.op.name not in costs:
                costs[run.op.name] = measured(plan, run.cost or run, child, seed)
            return _judged(run, costs[run.op.name])

        if run.timed:
            return self._guarded(plan, run, child, cost)
        result = self._guarded(plan, run, child, self._cases)
        if run.cost is None or result.status != results.HOLDS:
            return result
        return self._guarded(plan, run, child, cost)

    def _guarded(self, plan, run, child, check):
        """A check's result; whatever goes wrong on our side is inconclusive, and ours to fix."""
        try:
            return check(plan, run, child, self.seed)
        except Fault as fault:
            status = STATUS.get(fault.kind, results.REFUSED)
            return _result(run, status, fault.message, child.printed)
        except Exception as error:
            reason = f"the check itself failed: {type(error).__name__}: {error}"
            return _result(run, results.INCONCLUSIVE, " ".join(reason.split())[:500])

    def _cases(self, plan, run, child, seed):
        if "spare" not in run.settings:
            return self._each_case(plan, run, child, seed)
        child.tighten(run.settings["spare"] << 20)
        try:
            return self._each_case(plan, run, child, seed)
        finally:
            child.tighten(0)

    def _each_case(self, plan, run, child, seed):
        for size in run.sizes:
            case, expected = plan.answer(run, seed, size)
            try:
                came = child.ask(run.drive, case, seconds=run.seconds)
            except Fault as fault:
                if fault.kind != "raised" or not self.explained:
                    raise
                printed, detail = child.printed, explain.failure(plan, run, child, case, seed)
                return _result(run, results.CRASHED, fault.message, f"{printed}\n{detail}".strip())
            problem = _problem(run, case, expected, came)
            if problem:
                detail = ""
                if self.explained:
                    detail = explain.failure(plan, run, child, case, seed)
                return _result(run, results.FAILS, problem, detail)
        return _result(run, results.HOLDS)


def _judged(run, cost):
    """The result of a check by what was measured; it looks at its own gradients alone.

    A check that draws arguments of its own has no gradients there.
    """
    if cost.fault:
        raise cost.fault
    if cost.problem:
        return _result(run, results.FAILS, cost.problem)
    own = "draw" in run.settings
    wrong = None if own else _problem(run, cost.case, cost.expected, cost.came)
    if wrong:
        return _result(run, results.FAILS, f"on many elements: {wrong}")
    return _result(run, results.HOLDS)


def _problem(run, case, expected, came):
    """What the judge says. One that an odd answer makes stumble is not at fault for that."""
    try:
        return run.judge(case, expected, came)
    except Exception as error:
        run.judge(case, expected, expected)  # where this raises too, the fault is ours
        return f"the answer does not have the form that was asked for ({type(error).__name__})"


def _handed_in(modules, task, files):
    return any(
        file in files for file, owners in modules.tasks_of_file.items() if task.name in owners
    )


def _result(run, status, reason="", detail=""):
    return CheckResult(run.task, run.name, run.title, run.points, status, reason, detail)


def _rng(run, seed, size):
    key = zlib.crc32(f"{run.task}/{run.draws}".encode())
    return np.random.default_rng(np.random.SeedSequence([seed, key, size]))

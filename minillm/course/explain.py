"""What a student is told about a failure: the smallest case, the values on the way, a diagnosis.

Nothing here changes a result. A student's process may end or hang in the middle of it: then the
explanation is shorter.
"""

import textwrap
import time
import weakref
from dataclasses import dataclass, field

import numpy as np

from minillm.course import chain, diagnose, show
from minillm.course.faults import Fault
from minillm.course.judge import difference
from minillm.course.questions import Questions, Stopped, kind
from minillm.course.smallest import smallest

__all__ = ["failure"]

EACH = 2.0  # seconds of looking into one failure
TASK = 4.0  # seconds for all failures of one task: what comes later is told in less detail
WIDTH = 88


@dataclass
class _Notes:
    """What is known of a student's process from its earlier failures."""

    spent: float = 0.0
    reports: dict = field(default_factory=dict)  # (op's name, options) -> (right, Report)
    told: dict = field(default_factory=dict)  # (op's name, way of failing) -> check's title


_notes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # child -> _Notes


def failure(plan, run, child, case, seed):
    """Several lines about a check that fails at `case`, or where an exception ends it.

    Parameters
    ----------
    plan, run, child : Plan, Runnable and Child of run.py
    case : tree, at which the judge found a fault
    seed : int, of the cases that are drawn to find a smaller one
    """
    if run.drive == "with_cause":
        return ""  # a name is wrong in all cases alike; what is not mended has a check of its own
    notes = _notes.setdefault(child, _Notes())
    start = time.monotonic()
    until = start + max(min(EACH, TASK - notes.spent), 0.0)
    parts: list[list[str]] = []
    try:
        _explain(plan, run, child, case, seed, notes, until, parts)
    except (Fault, Stopped):
        pass
    except Exception as error:  # a defect of ours must not cost a student the result
        parts.append([f"(the explanation ends here: {type(error).__name__} in the checker itself)"])
    notes.spent += time.monotonic() - start
    return "\n\n".join("\n".join(part) for part in parts if part)


def _explain(plan, run, child, case, seed, notes, until, parts):
    """Fill `parts` one after another, so that what there is stands when time is up."""
    questions = Questions(plan, run, child, until - 0.4 * max(until - time.monotonic(), 0))
    found = smallest(questions, case, seed)
    if found is None and time.monotonic() < questions.until and not questions.stopped:
        parts.append(_fold("Asked again about the same inputs, your code gave the right answer: "
                           "something in it is random, or remembers an earlier call."))  # fmt: skip
        return
    if found is None:
        return
    how = run.op.name if run.op else run.name, *kind(found)
    if found.raised and how in notes.told:
        parts.append(_fold(f'The same as in "{notes.told[how]}".'))
        return
    parts.append(_case(run, found))
    if found.raised:
        notes.told[how] = run.title
        return
    questions.until, questions.left = until, questions.left + 10
    if run.drive == "calls" and not _is_wrong_anyway(questions, found, parts):
        return
    if run.op and how in notes.told:
        said = f'This looks like the mistake behind "{notes.told[how]}": mend that first.'
        parts.append(_fold(said))
        return
    notes.told.setdefault(how, run.title)
    table = chain.table(chain.rows(questions, found))
    if table:
        parts.append(["Value by value, yours beside the reference's:", *table])
    if run.op is not None and not plan.modules.assignment.task(run.task).bugs:
        parts.append(_diagnosis(plan, run, child, found.case, seed, notes, until))


def _case(run, found):
    """The case as code, and what came of it."""
    if found.raised and run.op is not None:
        lines = show.call_of(found.case, run.op.op.backward, only_forward=run.drive == "forward")
        args = zip(found.case["names"], found.case["args"], strict=True)
        shapes = ", ".join(f"{name} {x.shape}" for name, x in args if isinstance(x, np.ndarray))
        raised = [f"    {line}" for line in _fold(found.problem)]
        raised += [f"    (shapes: {shapes})"] if shapes else []
        return ["The smallest case found where this happens:", *lines, "", *raised]
    if run.op is None:
        return _plain_case(found)
    lines = ["The smallest case found that fails:"]
    lines += show.call_of(found.case, run.op.op.backward, only_forward=run.drive == "forward")
    pairs = []
    for name in run.pick or found.expected:
        mine, theirs = found.expected.get(name), found.came.get(name)
        if difference(found.expected, found.expected | {name: theirs}) is not None:
            label = {"out": show.output_name(run.op.op.backward)}.get(name, name)
            pairs += show.differing(label, theirs, mine)
    return [*lines, "", *show.answers(pairs[:4])]


def _plain_case(found):
    """A case of the assignment's own: its entries, and short answers as they are."""
    case = found.case
    lines = ["The smallest case found that fails:"]
    if isinstance(case, dict) and {"module", "function"} <= case.keys():
        lines += show.call_of({"args": [], "kwargs": {}} | case)
        rest = {
            k: v
            for k, v in case.items()
            if k not in ("module", "function", "args", "kwargs", "names", "gradients", "dout")
        }
    else:
        rest = case if isinstance(case, dict) else {"case": case}
    for name, x in rest.items():
        lines += show.short(str(name), x)
    lines += ["", *_fold(found.problem, "    ")]
    expected, came = (show.unwrapped(x) for x in (found.expected, found.came))
    texts = [show.plain(x, 2000) for x in (came, expected)]
    if expected is not None and max(map(len, texts)) <= 400:
        lines += show.short("came", came) + show.short("expected", expected)
    return lines


def _is_wrong_anyway(questions, found, parts):
    """Which part of a check of calls goes wrong, into `parts`; True where it is no part of it."""
    run = questions.run

    def holds(drive):
        came = questions.ask(drive, found.case)
        changed = came.pop("changed", {})
        return run.judge(found.case, found.expected, came) is None, changed

    if not holds("pair")[0]:
        if " is float64, expected float32" not in found.problem:
            return True
        text = "float32 has to stay float32. What np.zeros, np.ones and np.array make is float64 "
        text += "unless they are told otherwise, and makes float64 of all that it meets."
        parts.append(_fold(text))
        return False
    right, changed = holds("twice")
    names = [*found.case["names"], "the upstream gradient"]
    written = [names[i] for i in changed if isinstance(i, int) and 0 <= i < len(names)]
    text = "The first call is right, a second one with the same arrays is not: your code "
    if written:
        text += f"writes to {' and '.join(written)}. a *= b changes the array that came in, where "
        text += "a = a * b makes a new one."
    elif not right:
        text += "remembers something of the first call."
    else:
        text = "It goes wrong where the arrays have gaps in memory, as x[..., ::2] has."
    parts.append(_fold(text))
    return False


def _diagnosis(plan, run, child, case, seed, notes, until):
    """What the gradient checker says of the student's pair, once for each op of a process."""
    options = {k: v for k, v in case["kwargs"].items() if k in run.op.options}
    name = run.op.name, repr(options)
    if name not in notes.reports:
        drawn = diagnose.ordinary_case(run.op, seed)
        drawn["kwargs"] = {k: v for k, v in drawn["kwargs"].items() if k not in run.op.options}
        drawn["kwargs"] |= options
        right = diagnose.forward_is_right(run, plan, child, drawn, until)
        report = None if right is None else diagnose.examine(child, drawn, until)
        notes.reports[name] = right, report
    right, report = notes.reports[name]
    if report is None or right is None:
        return []
    if right and run.pick == ("out",):
        return []  # at ordinary inputs forward is right: the case above says it all
    pick = run.pick[0] if run.pick and run.pick != ("out",) else None
    lines = diagnose.verdict(report, right, pick)
    head = (
        f"The gradient checker, at {', '.join(f'{x.name} {x.shape}' for x in report.leaves[:4])}:"
    )
    return [head] * bool(lines) + [x for line in lines for x in _fold(line, "  ")]


def _fold(text, indent=""):
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)

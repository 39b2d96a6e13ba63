"""The checker, checked: what it says of backwards that are known to be wrong, or right.

    run(ops, pairs, echo)      # what `minillm gradcheck --self-test` prints

Whoever calls brings the ops, since the checker knows none.
"""

import json as json_format
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minillm.gradcheck import awkward
from minillm.gradcheck.catalogue import Tools, load
from minillm.gradcheck.check import check_vjp
from minillm.gradcheck.proof import is_right
from minillm.gradcheck.report import FAIL, INCONCLUSIVE, PASS

__all__ = [
    "Case",
    "Outcome",
    "Pair",
    "awkward_cases",
    "judge",
    "right_cases",
    "run",
    "wrong_cases",
]

SEEDS = (0,)  # half a minute
WRONG, RIGHT, AWKWARD = "wrong", "right", "awkward"
CAUGHT, MISSED, RIGHT_THERE, REFUSED = "caught", "missed", "right there", "refused"


class Pair(NamedTuple):
    """A forward and a backward at a point, in the order in which `check_vjp` takes them."""

    forward: Callable
    backward: Callable
    args: Any
    kwargs: dict


@dataclass(frozen=True)
class Case:
    """Something to check, and what it is known to be.

    kind: "wrong", "right" or "awkward", which is right as well; check(**options) -> Report; pair:
    what is checked, where it is one; causes: the diagnoses that name the mistake of a wrong one;
    zero: whether a gradient truly vanishes, of which no check can be sure.
    """

    kind: str
    name: str
    seed: int
    check: Callable
    pair: Pair | None = None
    causes: tuple[str, ...] = ()
    zero: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the checker made of a case.

    state: of a wrong backward "caught", "missed", "inconclusive", or "right there" if it is right
    at this point; of a right one "pass", "inconclusive" or "refused"; said: the likeliest cause.
    """

    case: Case
    state: str
    said: str | None = None

    @property
    def named(self):
        return self.said in self.case.causes


def wrong_cases(ops, pairs, seed, entries=None):
    """The catalogue's wrong backwards, each op's at one point."""
    for entry in load() if entries is None else entries:
        forward, true = pairs(entry.op)
        tools = Tools(ops, true)
        pair = Pair(forward, _bound(entry, tools), *_point(entry, tools, seed))
        name = f"{entry.op}.{entry.name}"
        yield Case(WRONG, name, seed, partial(check_vjp, *pair), pair, entry.causes)


def right_cases(ops, pairs, seed, entries=None):
    """The true backwards of the catalogue's ops, at the same points."""
    for entry in {entry.op: entry for entry in (load() if entries is None else entries)}.values():
        forward, true = pairs(entry.op)
        pair = Pair(forward, true, *_point(entry, Tools(ops, true), seed))
        yield Case(RIGHT, entry.op, seed, partial(check_vjp, *pair), pair)


def awkward_cases(seed):
    """One case of each awkward family in each precision."""
    for family in awkward.load():
        for dtype in ("float64", "float32"):
            rng = np.random.default_rng([seed, zlib.crc32(family.name.encode())])
            case, name = family.case(rng, dtype), f"{family.name} {dtype}"
            yield Case(AWKWARD, name, seed, case.run, zero=bool(case.zero))


def judge(case, **options):
    """Check a case, and weigh the verdict by what is known."""
    report = case.check(seed=case.seed, **options)
    if case.kind != WRONG:
        return Outcome(case, REFUSED if report.verdict == FAIL else report.verdict)
    if report.verdict == FAIL:
        return Outcome(case, CAUGHT, report.diagnoses[0].cause if report.diagnoses else None)
    if is_right(*case.pair):
        return Outcome(case, RIGHT_THERE)
    return Outcome(case, MISSED if report.verdict == PASS else INCONCLUSIVE)


def run(ops, pairs, echo, json=False, seeds=SEEDS, progress=None, entries=None):
    """Check the checker and print how it did.

    Parameters
    ----------
    ops : holds the ops as attributes
    pairs : name of an op -> (forward, backward), as the numpy backend has them
    echo : prints a line
    json : whether to print one JSON document instead
    seeds : one point for each, at which all backwards of an op are checked
    progress : wraps the list of cases as tqdm does, for a terminal
    entries : of the catalogue; all by default

    Returns
    -------
    exit code : 0 if every wrong backward was caught and no right one refused, else 1
    """
    entries = load() if entries is None else entries
    start = time.perf_counter()
    cases = [case for seed in seeds for case in wrong_cases(ops, pairs, seed, entries)]
    cases += [case for seed in seeds for case in right_cases(ops, pairs, seed, entries)]
    cases += [case for seed in seeds for case in awkward_cases(seed)]
    outcomes = [judge(case) for case in (cases if progress is None else progress(cases))]
    summary = summarise(outcomes) | {"seconds": round(time.perf_counter() - start, 1)}
    for line in [json_format.dumps(summary, indent=2)] if json else described(summary):
        echo(line)
    return 0 if summary["verdict"] == PASS else 1


def summarise(outcomes):
    """Counts, and by name whatever was not as it should be, in plain values."""

    def listed(state, *kinds):
        return [
            {"name": o.case.name, "seed": o.case.seed}
            for o in outcomes
            if o.state == state and o.case.kind in kinds
        ]

    caught = [o for o in outcomes if o.state == CAUGHT]
    wrong = {
        "backwards": len({o.case.name for o in outcomes if o.case.kind == WRONG}),
        "checks": sum(o.case.kind == WRONG for o in outcomes),
        "right_there": listed(RIGHT_THERE, WRONG),
        "caught": len(caught),
        "missed": listed(MISSED, WRONG),
        "inconclusive": listed(INCONCLUSIVE, WRONG),
        "named": sum(o.named for o in caught),
        "misnamed": [
            {
                "name": o.case.name,
                "seed": o.case.seed,
                "said": o.said,
                "causes": list(o.case.causes),
            }
            for o in caught
            if not o.named
        ],
    }
    summary: dict[str, Any] = {"verdict": PASS, WRONG: wrong}
    for kind in (RIGHT, AWKWARD):
        summary[kind] = {
            "checks": sum(o.case.kind == kind for o in outcomes),
            "refused": listed(REFUSED, kind),
            "inconclusive": listed(INCONCLUSIVE, kind),
            "truly_zero": sum(
                o.state == INCONCLUSIVE and o.case.kind == kind and o.case.zero for o in outcomes
            ),
        }
    escaped = wrong["missed"] or wrong["inconclusive"]
    if escaped or not caught or summary[RIGHT]["refused"] or summary[AWKWARD]["refused"]:
        summary["verdict"] = FAIL
    return summary


def described(summary):
    """The summary in lines for a person."""
    wrong, right, awkward = summary[WRONG], summary[RIGHT], summary[AWKWARD]
    counted = wrong["checks"] - len(wrong["right_there"])
    yield f"{wrong['backwards']} backwards known to be wrong, {wrong['checks']} checks:"
    yield f"  caught            {wrong['caught']:>5} of {counted}"
    yield f"  named rightly     {wrong['named']:>5} of {wrong['caught']}"
    if wrong["right_there"]:
        yield f"  not counted       {len(wrong['right_there']):>5}, proven right at their point"
    for kind, label in ((right, "right backwards"), (awkward, "right but awkward functions")):
        if kind["checks"]:
            yield f"{kind['checks']} checks of {label}:"
            yield f"  refused           {len(kind['refused']):>5}"
            honest = kind["truly_zero"]
            remark = f", {honest} of them where a gradient is truly zero" if honest else ""
            yield f"  inconclusive      {len(kind['inconclusive']):>5}{remark}"
    for title, cases in (
        ("wrong, but passed", wrong["missed"]),
        ("wrong, but inconclusive", wrong["inconclusive"]),
        ("right, but refused", right["refused"] + awkward["refused"]),
    ):
        for case in cases:
            yield f"{title}: {case['name']} (seed {case['seed']})"
    done = "all as it should be" if summary["verdict"] == PASS else "NOT as it should be"
    yield f"{done}, {summary['seconds']} s"


def _point(entry, tools, seed):
    """(args, kwargs) for a seed, the same for all backwards of an op."""
    return entry.case(np.random.default_rng([seed, zlib.crc32(entry.op.encode())]), tools)


def _bound(entry, tools):
    def backward(dout, saved):
        return entry.backward(dout, saved, tools)

    return backward

"""One check from beginning to end: contract, verdicts, where it is wrong, what it may be."""

import inspect

import numpy as np

from minillm.gradcheck import contract as contracts
from minillm.gradcheck import elements, locate
from minillm.gradcheck.diagnosis import diagnose as find_mistakes
from minillm.gradcheck.evidence import Evidence
from minillm.gradcheck.judge import judge
from minillm.gradcheck.mistakes import of_contract
from minillm.gradcheck.opinion import second_opinion
from minillm.gradcheck.report import FAIL, INCONCLUSIVE, PASS, LeafResult, Report
from minillm.gradcheck.steps import Line, default_rtol, length
from minillm.gradcheck.view import AGREES, DIFFERS, NULL, UNSURE
from minillm.tree import leaves

__all__ = ["run"]

SALT = 0x67726164  # a stream of our own: the inputs may well come from default_rng(seed)
MOVES = 3  # how often a point that lies on a kink is moved
ADVICE = {
    "vanishes": "the gradient is zero within rounding in every direction tried: check at values "
    "where {name} matters, or name it in allow_zero if that is right",
    "no influence": "{name} does not change the output at all: is it used? Are all units that it "
    "reaches dead? Name it in allow_zero if that is right",
    "saturated": "the output does not respond to {name} within its precision, though backward "
    "returns a gradient: check at smaller values",
    "kink": "the function has a kink (a maximum's tie, |x| or ReLU at 0) wherever {name} was "
    "moved: check away from it",
    "noise": "rounding in forward hides the gradient of {name}: use float64, inputs of ordinary "
    "size, or leave out a large constant",
    "curvature": "the output changes so sharply with {name} that no step follows it: check away "
    "from the singular point",
    "not finite": "forward returns infinities or NaN at or around this {name}: check at other "
    "values",
    "not deterministic": "without a forward that repeats itself {name} cannot be differentiated",
}


class Setting:
    """The options of a check, verified once."""

    def __init__(self, seed=0, scope="default", rtol=None, allow_zero=(), diagnose=True):
        if scope not in ("default", "full"):
            raise ValueError(f"scope must be 'default' or 'full', got {scope!r}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
        if rtol is not None and not 0 < rtol < 1:
            raise ValueError(f"rtol must lie between 0 and 1, got {rtol!r}")
        self.seed, self.scope, self.rtol, self.diagnose = int(seed), scope, rtol, diagnose
        self.all_zero = allow_zero is True
        names = () if allow_zero in (True, False, None) else allow_zero
        self.zero = (names,) if isinstance(names, str) else tuple(names)

    @classmethod
    def of(cls, options):
        """The setting of a call's keyword options; refuses one that there is not."""
        known = inspect.signature(cls).parameters
        unknown = options.keys() - known.keys()
        if unknown:
            names = ", ".join(sorted(unknown))
            raise ValueError(f"no option {names}; there are {', '.join(known)} and names")
        return cls(**options)

    def may_vanish(self, name):
        """Whether a zero gradient of this leaf is allowed, by its own or its argument's name."""
        return self.all_zero or any(name == z or name.startswith(f"{z}.") for z in self.zero)

    def check_names(self, problem):
        known = {leaf.name for leaf in problem.leaves} | set(problem.names)
        for name in self.zero:
            if name not in known and not any(k.startswith(f"{name}.") for k in known):
                raise ValueError(f"allow_zero names {name!r}; the arguments are {sorted(known)}")


def run(problem, subject, setting, replay=""):
    """Check a problem; where it lies on a kink, the same problem near by."""
    setting.check_names(problem)
    report = Report(subject, setting.seed, setting.scope, replay=replay)
    held = [name for name, arg in problem.named() if any(type(x) is float for _, x in leaves(arg))]
    constant = [f"{', '.join(held)}: Python numbers are constants, only arrays are differentiated"]
    for attempt in range(MOVES + 1):
        rng = np.random.default_rng([setting.seed, attempt, SALT])
        _attempt(problem, setting, rng, report)
        report.evaluations += problem.evaluations
        report.backwards += problem.backwards
        kinks = [leaf.name for leaf in report.leaves if leaf.reason == "kink"]
        if not kinks or attempt == MOVES or report.verdict == FAIL:
            break
        report.notes = [f"a kink at the point, seen by {', '.join(kinks)}: moved by 2 %"]
        problem = problem.moved(rng)
    report.notes = (constant if held else []) + report.notes
    if all(leaf.reason == "empty" for leaf in report.leaves):
        report.notes.append("nothing was compared: the arrays are empty")
    return report


def _attempt(problem, setting, rng, report):
    """Fill the report's leaves and findings from the problem as it stands."""
    contract = contracts.examine(problem, rng)
    contract.findings = [f for f in contract.findings if not _of_the_point(problem, f, rng)]
    report.contract = contract.findings
    report.notes = report.notes + contract.notes
    judgements = {}
    report.leaves = []
    for index, leaf in enumerate(problem.leaves):
        result = LeafResult(leaf.name, leaf.value.shape, leaf.dtype)
        report.leaves.append(result)
        judgement = _leaf(problem, index, contract, setting, rng, result)
        if judgement is not None:
            judgements[index] = judgement
    failed = [i for i, result in enumerate(report.leaves) if result.verdict == FAIL]
    if failed and np.isfinite(problem.flat).all() and problem.flat.size:
        _explain(problem, failed, contract, judgements, setting, rng, report)
    elif contract.findings and setting.diagnose:
        report.diagnoses = of_contract(contract.findings, None)
    for index, judgement in judgements.items():
        result = report.leaves[index]
        if result.verdict == FAIL or result.reason == "noise":
            note = second_opinion(problem, index, judgement, contract)
            report.notes += [note] if note else []


def _leaf(problem, index, contract, setting, rng, result):
    """One leaf's verdict; returns the judgement where there was one."""
    gradients = [found[index] for found in contract.gradients]
    rules = {finding.rule for finding in contract.findings}
    broken = any(
        finding.leaf == result.name or (finding.rule, finding.leaf) == ("structure", None)
        for finding in contract.findings
    )
    if any(gradient is None for gradient in gradients) and not broken:
        _set(result, INCONCLUSIVE, "not finite")
    elif any(gradient is None for gradient in gradients):
        _set(result, FAIL)
    elif result.shape and 0 in result.shape:
        _set(result, PASS, "empty")
    elif problem.flat.size == 0:
        _set(result, FAIL if any(np.any(g) for g in gradients) else PASS, "empty")
    elif "not deterministic" in rules:
        _set(result, INCONCLUSIVE, "not deterministic")
    elif not (np.isfinite(problem.flat).all() and np.isfinite(problem.leaves[index].value).all()):
        _set(result, INCONCLUSIVE, "not finite")
    else:
        lines = _lines(problem, index)
        with np.errstate(all="ignore"):
            found = judge(problem, index, contract.cotangents, gradients, rng, setting.rtol, lines)
            if found.state in (AGREES, UNSURE, NULL) and setting.scope == "full":
                found = elements.judge_each(problem, index, contract, found, setting.rtol)
        result.error, result.tolerance = found.view.relative, found.tolerance
        result.norm = found.view.scale
        if found.state == DIFFERS:
            _set(result, FAIL)
        elif found.state == AGREES:
            _set(result, PASS)
        else:
            result.error = result.tolerance = None
            zero = found.state == NULL and found.reason != "noise"
            zero = zero and setting.may_vanish(result.name)
            _set(result, PASS if zero else INCONCLUSIVE, found.reason)
            result.message = "zero within rounding, as allowed" if zero else result.message
        return found
    return None


def _of_the_point(problem, finding, rng):
    """Whether a gradient is infinite because forward is, at the point or around it."""
    if finding.rule != "not finite":
        return False
    if not np.isfinite(problem.flat).all():
        return True
    index = next(i for i, leaf in enumerate(problem.leaves) if leaf.name == finding.leaf)
    line = Line.random(problem, index, rng)
    return not line.pair(line.first).finite


def _lines(problem, index):
    """How many directions to look along: more where one number is all that can be seen.

    A single output has but one gradient; float32 leaves a direction little to tell it by.
    """
    spare = 5 // len(problem.leaves)  # pairs that all leaves may have beyond two
    scarce = problem.flat.size == 1 and problem.precision(index) == "float32"
    return 2 + (min(spare, 4) if scarce else 0)


def _set(result, verdict, reason=None):
    result.verdict, result.reason = verdict, reason
    if verdict == INCONCLUSIVE:
        result.message = f"{reason}: " + ADVICE[reason].format(name=result.name)


def _explain(problem, failed, contract, judgements, setting, rng, report):
    """The worst elements of each failing leaf, and the mistakes that would explain them."""
    steps = {i: _plain_step(problem, i, judgements.get(i), rng) for i in range(len(problem.leaves))}
    subsets = {i: locate.elements_to_try(problem, i, rng) for i in range(len(problem.leaves))}
    evidence = Evidence(problem, failed, steps, subsets, rng)
    for index in failed:
        if index not in judgements:
            continue
        judgement, result = judgements[index], report.leaves[index]
        cotangent = contract.cotangents[judgement.cotangent]
        gradient = contract.gradients[judgement.cotangent][index]
        numeric = evidence.numeric(index, cotangent)
        tolerance = 20 * default_rtol(problem.precision(index))
        result.n_wrong, result.worst = locate.worst_of(gradient, numeric, tolerance)
        if np.isfinite(numeric).all() and (norm := length(numeric)):
            result.error, result.norm = length(gradient - numeric) / norm, norm
        if len(subsets[index]) < gradient.size:
            result.worst = locate.worst_by_bisection(
                problem, index, cotangent, gradient, steps[index], rng
            )
    if setting.diagnose:
        found = of_contract(contract.findings, evidence)
        compared = [i for i in failed if i in judgements]
        evidence.failed = compared
        report.diagnoses = found + (find_mistakes(evidence) if compared else [])


def _plain_step(problem, index, judgement, rng):
    """A step for single elements: the one that judged the leaf, where it is no extreme one."""
    line = Line.random(problem, index, rng)
    if judgement is None or not 1 / line.ratio <= judgement.h / line.first <= line.ratio:
        return line.first
    return judgement.h

"""What a broken contract tells of the mistake behind it."""

import itertools

import numpy as np

from minillm.gradcheck.report import Diagnosis

__all__ = ["of_contract"]

CAUSES = {
    "shape": ("shape", "the gradient of {leaf} has another shape than {leaf}"),
    "dtype": (
        "dtype",
        "an array of another dtype, for one np.zeros or a Python constant's, slipped in",
    ),
    "missing": ("missing", "{leaf} is differentiated, but its gradient is not returned"),
    "structure": (
        "missing",
        "what backward returns is not one array for each argument, in their order",
    ),
    "mutates": (
        "mutates",
        "an operation in place (+=, *=, out=) works on an array that is not its own",
    ),
    "not deterministic": ("not_deterministic", "randomness is drawn inside forward"),
    "cache spent": ("cache_spent", "backward changes or consumes what forward saved"),
    "not finite": ("not_finite", "a division by zero, log of zero, or overflow in backward"),
}


def of_contract(findings, evidence):
    """Diagnoses of the findings; evidence (or None) tells more about a wrong shape."""
    found = []
    drawn = evidence is not None and _draws(findings, evidence)
    for finding in findings:
        if finding.rule == "not linear":
            whatever = "whatever comes in" in finding.message
            if whatever:
                text = f"backward does not use its upstream gradient for {finding.leaf}"
                found.append(Diagnosis("upstream_ignored", finding.leaf, text, 0.9))
            continue
        if finding.rule not in CAUSES:
            continue
        cause, text = CAUSES[finding.rule]
        if finding.rule == "cache spent" and drawn:
            cause, text = "not_deterministic", "randomness is drawn inside backward"
        if finding.rule == "shape" and evidence is not None:
            cause, text = _behind_shape(finding, evidence) or (cause, text)
        text = text.format(leaf=finding.leaf)
        found.append(Diagnosis(cause, finding.leaf, text, 0.6 if cause == "shape" else 0.9))
    said: dict[tuple[str, str], Diagnosis] = {}
    for diagnosis in found:
        said.setdefault((diagnosis.cause, diagnosis.message), diagnosis)
    return list(said.values())


def _draws(findings, evidence):
    """Whether backward gives other gradients from a fresh cache of the same forward."""
    if not any(finding.rule == "cache spent" for finding in findings):
        return False
    c = evidence.cotangents[0]  # a spent cache is made anew for each of these calls
    pairs = ((evidence.raw(i, c), evidence.raw(i, c)) for i in range(len(evidence.leaves)))
    return any(a is not None and b is not None and not np.allclose(a, b) for a, b in pairs)


def _behind_shape(finding, evidence):
    """(cause, text) where a gradient of a wrong shape, summed or turned, is the numeric one."""
    index = next(i for i, leaf in enumerate(evidence.leaves) if leaf.name == finding.leaf)
    shape = evidence.leaves[index].value.shape
    pairs = [(evidence.raw(index, c), evidence.numeric(index, c)) for c in evidence.cotangents]
    if any(raw is None for raw, _ in pairs):
        return None
    axes = range(pairs[0][0].ndim)
    for count in range(1, len(axes) + 1):
        for chosen in itertools.combinations(axes, count):
            lost = [n for axis, n in enumerate(pairs[0][0].shape) if axis in chosen]
            if max(lost) == 1:
                continue  # nothing to sum, only a dimension too many
            if all(_same(raw.sum(chosen), true, evidence) for raw, true in pairs):
                text = "the sum over the axes along which {leaf} is broadcast is missing"
                return "missing_sum", text
    if sorted(pairs[0][0].shape) != sorted(shape) or len(shape) > 4:
        return None
    for order in itertools.permutations(axes):
        if all(_same(raw.transpose(order), true, evidence, True) for raw, true in pairs):
            return "transposed", "the gradient of {leaf} is its true one with its axes exchanged"
    return None


def _same(made, true, evidence, strict=False):
    """Equal up to the numeric precision, where that is known."""
    if made.size != true.size or (strict and made.shape != true.shape):
        return False
    off = np.abs(made.reshape(true.shape) - true)
    bound = 1e3 * evidence.precision * np.nanmax(np.abs(true), initial=0)
    return bool(np.nanmax(off, initial=0) <= bound)

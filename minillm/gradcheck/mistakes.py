"""What a broken contract tells of the mistake behind it."""

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
        "a gradient was left out of what backward returns, or is not an array",
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
        summed = (
            finding.rule == "shape" and evidence is not None and _sum_is_missing(finding, evidence)
        )
        if summed:
            cause, text = (
                "missing_sum",
                "the sum over the axes along which {leaf} is broadcast is missing",
            )
        text = text.format(leaf=finding.leaf)
        found.append(
            Diagnosis(cause, finding.leaf, text, 0.9 if summed or cause != "shape" else 0.6)
        )
    return list(dict.fromkeys(found))


def _sum_is_missing(finding, evidence):
    """Whether a gradient of a wrong shape, summed to the leaf's, is the numeric one."""
    index = next(i for i, leaf in enumerate(evidence.leaves) if leaf.name == finding.leaf)
    for cotangent in evidence.cotangents:
        raw, numeric = evidence.raw(index, cotangent), evidence.numeric(index, cotangent)
        if raw is None or raw.ndim < numeric.ndim:
            return False
        extra = raw.ndim - numeric.ndim
        axes = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(numeric.shape) if n == 1 and raw.shape[extra + i] != 1
        )
        summed = raw.sum(axis=axes, keepdims=True)
        if summed.size != numeric.size:
            return False
        off = np.abs(summed.reshape(numeric.shape) - numeric)
        if np.nanmax(off, initial=0) > 1e3 * evidence.precision * np.nanmax(
            np.abs(numeric), initial=0
        ):
            return False
    return True

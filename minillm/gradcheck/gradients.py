"""What a backward returned: one float64 array a leaf, and findings where it does not fit."""

from dataclasses import dataclass, field

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.report import Finding
from minillm.tree import leaves

__all__ = ["Contract", "by_argument", "gradients_for", "gradients_of"]


@dataclass
class Contract:
    """What the examination leaves: its findings, the cotangents and each one's gradients.

    gradients[k][i] is leaf i's gradient for cotangents[k], float64, None where there is none to
    compare.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cotangents: list[np.ndarray] = field(default_factory=list)
    gradients: list[list[np.ndarray | None]] = field(default_factory=list)

    def add(self, rule, leaf, message):
        finding = Finding(rule, leaf, message)
        if finding not in self.findings:
            self.findings.append(finding)


def gradients_for(problem, cotangent):
    """What backward says for a flat cotangent, one array a leaf; findings are not kept."""
    return gradients_of(problem, Contract(), problem.vjp(cotangent))


def gradients_of(problem, contract, raw):
    """What backward returned as one float64 array a leaf; what does not fit becomes a finding."""
    found: list[np.ndarray | None] = [None] * len(problem.leaves)
    given = by_argument(problem, contract, raw)
    absent = [i for i in problem.differentiated if i not in given]
    if absent and not any(finding.rule == "structure" for finding in contract.findings):
        for i in absent:
            name = problem.names[i]
            contract.add("missing", name, f"backward returns no gradient for {name}")
    for argument, gradient in given.items():
        name = problem.names[argument]
        mine = [i for i, leaf in enumerate(problem.leaves) if leaf.argument == argument]
        came = dict(leaves(gradient, f"{name}."))
        for i in mine:
            leaf = problem.leaves[i]
            found[i] = _fitting(contract, leaf, came.pop(leaf.name, None))
        constants = dict(leaves(problem.args[argument], f"{name}."))
        for extra in came.keys() - constants.keys():
            contract.add(
                "extra", extra, f"backward returns a gradient for {extra}, which is no argument"
            )
    return found


def by_argument(problem, contract, raw):
    """{argument position: its gradient}, from a tuple, a dict by name, or a bare gradient."""
    wanted, count = problem.differentiated, len(problem.args)
    labels = ", ".join(problem.names[i] for i in wanted)
    if isinstance(raw, dict) and (count > 1 or not isinstance(problem.args[0], dict)):
        keys = {problem.names[i]: i for i in range(count)}
        keys |= {f"d{name}": i for name, i in keys.items()}
        for key in raw.keys() - keys.keys():
            contract.add(
                "extra", str(key), f"backward returns a gradient named {key!r}; expected {labels}"
            )
        return {keys[key]: value for key, value in raw.items() if key in keys}
    if count == 1:
        nest = isinstance(problem.args[0], list | tuple)
        if isinstance(raw, tuple) and len(raw) == 1 and not nest:
            raw = raw[0]
        if not isinstance(raw, list | tuple) or nest:
            return {0: raw}
    if isinstance(raw, list | tuple):
        if len(raw) == count:
            return dict(enumerate(raw))
        if len(raw) == len(wanted):
            return dict(zip(wanted, raw, strict=True))
    elif len(wanted) == 1:
        return {wanted[0]: raw}
    what = _gradients(len(raw)) if isinstance(raw, list | tuple) else _looks(raw)
    contract.add(
        "structure",
        None,
        f"backward must return {_gradients(len(wanted))}, of {labels}; got {what}",
    )
    if isinstance(raw, list | tuple):  # what there is may still be right
        return dict(zip(wanted, raw, strict=False))
    return {}


def _fitting(contract, leaf, gradient):
    """One leaf's gradient in float64, or None with a finding where it cannot be compared."""
    if gradient is None:
        contract.add("missing", leaf.name, f"backward returns no gradient for {leaf.name}")
        return None
    if not arrays.is_array(gradient):
        if leaf.value.shape or not isinstance(gradient, int | float):
            message = f"the gradient of {leaf.name} must be an array of shape {leaf.value.shape}, "
            contract.add("structure", leaf.name, message + f"got {_looks(gradient)}")
            return None
        gradient = np.asarray(float(gradient), leaf.dtype)
    if not isinstance(gradient.shape, tuple | list):
        contract.add("structure", leaf.name, f"the gradient of {leaf.name} is no array")
        return None
    dtype, shape = arrays.dtype_name(gradient), tuple(gradient.shape)
    if dtype != leaf.dtype:
        contract.add(
            "dtype", leaf.name, f"the gradient of {leaf.name} must be {leaf.dtype}, got {dtype}"
        )
    if shape != leaf.value.shape:
        message = f"the gradient of {leaf.name} must have shape {leaf.value.shape}, got {shape}"
        contract.add("shape", leaf.name, message)
        return None
    values = arrays.host(gradient)
    if values.dtype.kind not in "fiub":  # complex numbers, objects, text: nothing to compare
        return None
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        message = f"{bad} of {values.size} elements of the gradient of {leaf.name} are not finite"
        contract.add("not finite", leaf.name, message)
        return None
    return values


def _gradients(count):
    return f"{count} gradient" + ("" if count == 1 else "s")


def _looks(value):
    if arrays.is_array(value):
        return f"{arrays.dtype_name(value)} of shape {tuple(value.shape)}"
    return type(value).__name__

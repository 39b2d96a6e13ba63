"""What holds for every backward before its numbers are looked at.

One gradient for each differentiated argument, of its structure, shape and dtype; inputs that stay
as they were; a forward that repeats itself; a cache that serves twice; a backward that is linear in
the upstream gradient, as every chain rule is.
"""

from dataclasses import dataclass, field

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.problem import scale_of
from minillm.gradcheck.report import Finding
from minillm.gradcheck.steps import default_rtol, length
from minillm.tree import leaves

__all__ = ["Contract", "by_argument", "examine", "gradients_of"]

NOT_LINEAR = {"float64": 1e-3, "float32": 3e-2}  # share of the gradient; rounding may cancel a lot
SHARES = (0.7, -1.3)  # of the two cotangents whose mixture tests linearity; they do not add up to 1


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


def examine(problem, rng):
    """Run forward and backward the few times that the contract needs."""
    contract = Contract()
    _forward_twice(problem, contract)
    contract.cotangents = _cotangents(problem, rng)
    _backward_twice(problem, contract)
    contract.gradients += [
        _collected(problem, contract, cotangent) for cotangent in contract.cotangents[1:]
    ]
    _linearity(problem, contract)
    return contract


def _forward_twice(problem, contract):
    kept = _snapshot(problem.args)
    kwargs = problem.fresh_kwargs()
    kept_kwargs = _snapshot(kwargs)
    problem.start(kwargs)
    if _not_written(problem, contract, kept, problem.args, "forward"):
        problem.start()  # on copies, with a cache that holds no overwritten array
    for name in _changed(kept_kwargs, kwargs):
        contract.add("mutates", name, f"forward writes to its keyword argument {name}")
    again = problem.evaluate({})
    if np.array_equal(again, problem.flat, equal_nan=True):
        return
    off = length(again - problem.flat)
    if off <= 1e3 * _eps(problem) * length(problem.flat):
        contract.notes.append("forward repeats itself only up to rounding")
        return
    contract.add(
        "not deterministic",
        None,
        f"forward gives another output for the same arguments: they differ by {off:.3g}, the "
        f"output's norm is {length(problem.flat):.3g}; pass randomness in as a generator",
    )


def _cotangents(problem, rng):
    """Random ones: two over all outputs, and where there are several one for each."""
    sizes = [value.size for _, value in problem.outputs]
    total = sum(sizes)
    made = [rng.standard_normal(total) for _ in range(2)]
    if len(sizes) > 1:
        start = 0
        for size in sizes:
            alone = np.zeros(total)
            alone[start : start + size] = rng.standard_normal(size)
            made.append(alone)
            start += size
    return [_rounded(problem, cotangent) for cotangent in made]


def _rounded(problem, cotangent):
    """As the outputs' dtype holds it, so that both sides use the same numbers."""
    return problem._flatten(problem.cotangent(cotangent))


def _backward_twice(problem, contract):
    """The first backward, watched; then the same again from the same cache."""
    dout = problem.cotangent(contract.cotangents[0])
    kept, kept_args, kept_out = _snapshot(dout), _snapshot(problem.args), problem.flat
    raw = problem.backward_of(dout)
    first = gradients_of(problem, contract, raw)
    contract.gradients.append(first)
    for name in _changed(kept, dout):
        contract.add("mutates", None, f"backward writes to its upstream gradient dout{_dot(name)}")
    _not_written(problem, contract, kept_args, problem.args, "backward")
    if not np.array_equal(problem._flatten(problem.out), kept_out, equal_nan=True):
        contract.add("mutates", None, "backward writes to the output of forward")
    spent = None
    try:
        raw = problem.backward_of(problem.cotangent(contract.cotangents[0]))
        second = gradients_of(problem, Contract(), raw)
        for leaf, a, b in zip(problem.leaves, first, second, strict=True):
            if spent is None and a is not None and (b is None or not _near(a, b, _eps(problem))):
                spent = (
                    f"a second backward from the same cache gives another gradient of {leaf.name}"
                )
    except Exception as error:
        spent = f"a second backward from the same cache raises {type(error).__name__}: {error}"
    if spent:
        problem.fresh_cache = True
        contract.add("cache spent", None, spent)
        # what the second call left may already be what a third one reads
        contract.gradients[0] = _collected(problem, contract, contract.cotangents[0])


def _linearity(problem, contract):
    from minillm.gradcheck.rounding import only_rounding  # which needs this module

    a, b = SHARES
    mixed = a * contract.cotangents[0] + b * contract.cotangents[1]
    mixed = _rounded(problem, mixed)
    found = _collected(problem, contract, mixed)
    spent = any(finding.rule == "cache spent" for finding in contract.findings)
    for i, leaf in enumerate(problem.leaves):
        first, second, both = contract.gradients[0][i], contract.gradients[1][i], found[i]
        if first is None or second is None or both is None:
            continue
        off = length(both - (a * first + b * second))
        scale = max(length(both), abs(a) * length(first), abs(b) * length(second))
        # a gradient that cancels to nothing leaves rounding, which is not linear in anything
        dtype = problem.precision(i)
        rounding = 1e3 * np.finfo(dtype).eps * length(problem.flat * mixed) / scale_of(leaf.value)
        if off > max(NOT_LINEAR[dtype] * scale, rounding) and np.isfinite(off):
            if not spent and only_rounding(problem, i, contract.cotangents[:2], [first, second]):
                continue  # an output that cancels to nothing does not tell how much was lost
            same = length(first - second) <= default_rtol(dtype) * scale
            why = "it is the same whatever comes in" if same else f"it is off by {off / scale:.2g}"
            contract.add(
                "not linear",
                leaf.name,
                f"the gradient of {leaf.name} is not linear in the upstream gradient: {why}",
            )


def _collected(problem, contract, cotangent):
    return gradients_of(problem, contract, problem.vjp(cotangent))


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
        came = {f"{name}.{path}" if path else name: leaf for path, leaf in leaves(gradient)}
        for i in mine:
            leaf = problem.leaves[i]
            found[i] = _fitting(contract, leaf, came.pop(leaf.name, None))
        constants = {
            f"{name}.{path}" if path else name for path, _ in leaves(problem.args[argument])
        }
        for extra in came.keys() - constants:
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


def _eps(problem):
    return max(float(np.finfo(problem.precision(i)).eps) for i in range(len(problem.leaves)))


def _near(a, b, eps):
    return length(a - b) <= 1e3 * eps * length(a)


def _snapshot(nest):
    """Host copies of all arrays of a nest, by name."""
    return {name: arrays.host(leaf) for name, leaf in leaves(nest) if arrays.is_array(leaf)}


def _changed(kept, nest):
    """The names of the arrays that are no longer what they were."""
    now = _snapshot(nest)
    return [name for name, values in kept.items() if not arrays.same(values, now[name])]


def _not_written(problem, contract, kept, args, who):
    """Report what `who` wrote to, and put it back."""
    changed = set(_changed(kept, args))
    if not changed:
        return False
    for name, leaf in leaves(args):
        if name in changed:
            argument, _, path = name.partition(".")
            full = problem.names[int(argument)] + (f".{path}" if path else "")
            contract.add("mutates", full, f"{who} writes to its argument {full}")
            arrays.restore(leaf, kept[name])
    problem.cautious = True
    return True


def _dot(name):
    return f".{name}" if name else ""

"""What holds for every backward before its numbers are looked at.

One gradient for each differentiated argument, of its structure, shape and dtype; inputs that stay
as they were; a forward that repeats itself; a cache that serves twice; a backward that is linear in
the upstream gradient, as every chain rule is.
"""

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.gradients import Contract, gradients_of
from minillm.gradcheck.problem import scale_of
from minillm.gradcheck.rounding import only_rounding
from minillm.gradcheck.steps import default_rtol, length
from minillm.tree import leaves

__all__ = ["changed", "examine", "snapshot"]

NOT_LINEAR = {"float64": 1e-3, "float32": 3e-2}  # share of the gradient; rounding may cancel a lot
SHARES = (0.7, -1.3)  # of the two cotangents whose mixture tests linearity; they do not add up to 1


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
    kept = snapshot(problem.args)
    kwargs = problem.fresh_kwargs()
    kept_kwargs = snapshot(kwargs)
    problem.start(kwargs)
    if _not_written(problem, contract, kept, problem.args, "forward"):
        problem.start()  # on copies, with a cache that holds no overwritten array
    for name in changed(kept_kwargs, kwargs):
        contract.add("mutates", name, f"forward writes to its keyword argument {name}")
    again = problem.evaluate({})
    if np.array_equal(again, problem.flat, equal_nan=True):
        return
    off = length(again - problem.flat)
    if off <= 1e3 * problem.eps * length(problem.flat):
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
    kept, kept_args, kept_out = snapshot(dout), snapshot(problem.args), problem.flat
    raw = problem.backward_of(dout)
    first = gradients_of(problem, contract, raw)
    contract.gradients.append(first)
    for name in changed(kept, dout):
        contract.add("mutates", None, f"backward writes to its upstream gradient dout{_dot(name)}")
    _not_written(problem, contract, kept_args, problem.args, "backward")
    if not np.array_equal(problem._flatten(problem.out), kept_out, equal_nan=True):
        contract.add("mutates", None, "backward writes to the output of forward")
    spent = None
    try:
        raw = problem.backward_of(problem.cotangent(contract.cotangents[0]))
        second = gradients_of(problem, Contract(), raw)
        for leaf, a, b in zip(problem.leaves, first, second, strict=True):
            if spent is None and a is not None and (b is None or not _near(a, b, problem.eps)):
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


def _near(a, b, eps):
    return length(a - b) <= 1e3 * eps * length(a)


def snapshot(nest):
    """Host copies of all arrays of a nest, by name."""
    return {name: arrays.host(leaf) for name, leaf in leaves(nest) if arrays.is_array(leaf)}


def changed(kept, nest):
    """The names of the arrays that are no longer what they were."""
    now = snapshot(nest)
    return [name for name, values in kept.items() if not arrays.same(values, now[name])]


def _not_written(problem, contract, kept, args, who):
    """Report what `who` wrote to, and put it back."""
    written = set(changed(kept, args))
    if not written:
        return False
    for name, leaf in leaves(args):
        if name in written:
            argument, _, path = name.partition(".")
            full = problem.names[int(argument)] + (f".{path}" if path else "")
            contract.add("mutates", full, f"{who} writes to its argument {full}")
            arrays.restore(leaf, kept[name])
    problem.cautious = True
    return True


def _dot(name):
    return f".{name}" if name else ""

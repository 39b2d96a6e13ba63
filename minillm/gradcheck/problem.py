"""A forward and a backward seen from outside: flat leaves in, one flat output, counted calls."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minillm.gradcheck import arrays
from minillm.tree import leaves, map_leaves

__all__ = ["Leaf", "Problem", "argument_names", "scale_of"]


@dataclass(frozen=True)
class Leaf:
    """One differentiated array: its name, host values in float64, dtype and argument."""

    name: str
    value: np.ndarray
    dtype: str
    argument: int

    @property
    def eps(self):
        return float(np.finfo(self.dtype).eps)


class Problem:
    """The functions under test at one point.

    forward(*args, **kwargs) -> (out, cache); backward(dout, cache) -> gradients.

    Raises
    ------
    ValueError
        where the arguments hold nothing to differentiate, or forward returns no (out, cache).
    """

    def __init__(self, forward: Callable, backward: Callable, args, kwargs=None, names=None):
        self.forward, self.backward = forward, backward
        self.args, self.kwargs = list(args), dict(kwargs or {})
        self.names = _complete(names, forward, len(self.args))
        self.evaluations = self.backwards = 0
        self.cautious = False  # whether each call gets copies, since the functions write to them
        self.fresh_cache = False  # whether a cache serves one backward only
        self.leaves: list[Leaf] = []
        for index, (name, arg) in enumerate(zip(self.names, self.args, strict=True)):
            for full, leaf in leaves(arg, f"{name}."):
                if arrays.is_float(leaf):
                    values = arrays.host(leaf).astype(np.float64)
                    self.leaves.append(Leaf(full, values, arrays.dtype_name(leaf), index))
        if not self.leaves:
            raise ValueError(
                "nothing to differentiate: no argument holds a float32 or float64 array, got "
                + (", ".join(f"{n}: {_kind(a)}" for n, a in self.named()) or "no arguments")
            )
        self.out: Any = None
        self.cache: Any = None
        self.coarse = False  # whether forward works in float32, whatever the leaves are
        self.flat = np.empty(0)  # the outputs at the point, flattened to float64
        self.outputs: list[tuple[str, np.ndarray]] = []

    @property
    def eps(self):
        """The coarsest precision that a leaf is judged by."""
        return max(float(np.finfo(self.precision(i)).eps) for i in range(len(self.leaves)))

    def named(self):
        return list(zip(self.names, self.args, strict=True))

    @property
    def differentiated(self):
        """The positions of the arguments that hold a leaf."""
        return sorted({leaf.argument for leaf in self.leaves})

    def fresh_kwargs(self):
        """Copies, so that each call finds a generator in the same state."""
        return {key: _copied(value) for key, value in self.kwargs.items()}

    def start(self, kwargs=None):
        """Evaluate at the point itself; what comes out is what backward is asked about."""
        self.out, self.cache = self.call(self.args_with({}), kwargs)
        self.outputs = [
            (name or "out", _host(leaf).astype(np.float64))
            for name, leaf in leaves(self.out)
            if _is_output(leaf)
        ]
        if not self.outputs:
            came = ", ".join(_looks(leaf) for _, leaf in leaves(self.out)) or "nothing"
            raise ValueError(f"forward must return float32 or float64 arrays, got {came}")
        self.flat = self._flatten(self.out)
        self.coarse = (
            any(
                arrays.is_array(leaf) and arrays.dtype_name(leaf) == "float32"
                for _, leaf in leaves(self.out)
            )
            or self._rounds_to_single()
        )

    def _rounds_to_single(self):
        """Whether float64 outputs hold float32 numbers alone, here and at a point near by."""

        def single(flat):
            with np.errstate(over="ignore"):
                return np.array_equal(flat.astype(np.float32), flat)

        if not (self.flat.size and single(self.flat)):
            return False
        rng = np.random.default_rng(0)
        near = {
            i: self.rounded(
                i, leaf.value + 1e-3 * scale_of(leaf.value) * rng.standard_normal(leaf.value.shape)
            )
            for i, leaf in enumerate(self.leaves)
        }
        flat = self.evaluate(near)
        return single(flat) and not np.array_equal(flat, self.flat)

    def precision(self, index):
        """The dtype to judge a leaf by: its own, or float32 where the outputs hold no more."""
        return "float32" if self.coarse else self.leaves[index].dtype

    def call(self, args, kwargs=None):
        """(out, cache) of one forward."""
        self.evaluations += 1
        result = self.forward(*args, **(self.fresh_kwargs() if kwargs is None else kwargs))
        if not isinstance(result, tuple) or len(result) != 2:
            what = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
            raise ValueError(f"forward must return (out, cache), got {what}")
        return result

    def evaluate(self, changes):
        """The flat output with some leaves, {index: float64 values}, replaced."""
        with np.errstate(all="ignore"):
            out, _ = self.call(self.args_with(changes))
            flat = self._flatten(out)
        if flat.size != self.flat.size:
            raise ValueError(
                f"the output's size changes with the values of the arguments: {self.flat.size} "
                f"elements at first, {flat.size} near by"
            )
        return flat

    def args_with(self, changes):
        """The arguments, the leaves of `changes` replaced by arrays of the same kind."""
        index = -1

        def put(leaf):
            nonlocal index
            if not arrays.is_float(leaf):
                return leaf
            index += 1
            if index in changes:
                return arrays.like(changes[index], leaf)
            return arrays.like(self.leaves[index].value, leaf) if self.cautious else leaf

        return [map_leaves(put, arg) for arg in self.args]

    def rounded(self, index, values):
        """Float64 values as the leaf's dtype holds them."""
        return values.astype(self.leaves[index].dtype).astype(np.float64)

    def vjp(self, cotangent):
        """What backward returns, as it comes, for a flat cotangent."""
        return self.backward_of(self.cotangent(cotangent))

    def backward_of(self, dout):
        self.backwards += 1
        if self.fresh_cache:
            _, self.cache = self.call(self.args_with({}))
        return self.backward(dout, self.cache)

    def cotangent(self, flat):
        """A flat cotangent in the structure, library and dtype of the outputs."""
        offset = 0

        def cut(leaf):
            nonlocal offset
            if not _is_output(leaf):
                return None
            shape = np.shape(leaf) if not arrays.is_array(leaf) else tuple(leaf.shape)
            size = int(np.prod(shape, dtype=int))
            part, offset = flat[offset : offset + size], offset + size
            made = arrays.like(part.reshape(shape), leaf)
            return made.detach() if hasattr(made, "detach") else made

        return map_leaves(cut, self.out)

    def _flatten(self, out):
        parts = [np.ravel(_host(leaf)) for _, leaf in leaves(out) if _is_output(leaf)]
        return np.concatenate([np.empty(0), *parts]).astype(np.float64)

    def moved(self, rng, by=0.02):
        """The same problem at a point near by; every element is moved, small ones off zero."""
        changes = {}
        for index, leaf in enumerate(self.leaves):
            x, scale = leaf.value, scale_of(leaf.value)
            sign = rng.choice([-1.0, 1.0], x.shape)
            sign = np.where((np.abs(x) < scale / 2) & (x != 0), np.sign(x), sign)
            reach = np.clip(np.abs(x), scale / 2, 2 * scale)
            push = by * sign * rng.uniform(0.5, 1.5, x.shape) * reach
            changes[index] = self.rounded(index, x + push)
        return Problem(
            self.forward, self.backward, self.args_with(changes), self.kwargs, self.names
        )


def scale_of(values):
    """The size of the values' spread, their typical distance from one another."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 1.0
    spread = float(np.std(values)) if values.size > 1 else 0.0
    typical = float(np.mean(np.abs(values)))
    # a constant leaf has no spread but rounding's
    return spread if spread > 1e-12 * typical else (typical or 1.0)


def argument_names(function, count):
    """Names for `count` positional arguments, from the signature where it has them."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    found = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return found[:count] + [f"argument {i}" for i in range(len(found), count)]


def _complete(names, forward, count):
    if names is None:
        return argument_names(forward, count)
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"names must hold one name for each of {count} arguments, got {names!r}")
    return list(names)


def _copied(value):
    try:
        return copy.deepcopy(value)
    except Exception:  # a lock, a module: it can only be shared
        return value


def _kind(arg):
    return f"{arrays.dtype_name(arg)} array" if arrays.is_array(arg) else type(arg).__name__


def _looks(leaf):
    return arrays.dtype_name(leaf) if arrays.is_array(leaf) else type(leaf).__name__


def _is_output(leaf):
    return isinstance(leaf, float) or arrays.is_float(leaf)


def _host(leaf):
    return np.float64(leaf) if isinstance(leaf, float) else arrays.host(leaf)

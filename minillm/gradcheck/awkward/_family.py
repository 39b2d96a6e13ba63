"""What a family of right cases is, and the draws that its cases are made of."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minillm.gradcheck.check import check_function, check_layer, check_vjp

__all__ = [
    "Case",
    "Family",
    "between",
    "dims",
    "elementwise",
    "load",
    "magnitude",
    "normal",
    "of",
    "pick",
    "right",
    "sum_to",
    "tied",
]


@dataclass
class Case:
    """One right pair at one point.

    run(**options) -> Report; zero: {leaf: reasons} of the leaves whose gradient truly vanishes
    there, with the reasons that an honest checker may give for not judging them.
    """

    run: Callable[..., Any]
    zero: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def pair(cls, forward, backward, *args, zero=None, **kwargs):
        """A forward that returns (out, cache) and its backward."""
        return cls(lambda **o: check_vjp(forward, backward, args, kwargs, **o), zero or {})

    @classmethod
    def layer(cls, layer, *inputs, zero=None, **names):
        """An object for check_layer."""
        return cls(lambda **o: check_layer(layer, *inputs, **names, **o), zero or {})


def of(f, vjp, *args, zero=None, **kwargs):
    """The case f(*args, **kwargs) with vjp(dout, *args, **kwargs)."""
    return Case(lambda **o: check_function(f, vjp, args, kwargs, **o), zero or {})


def elementwise(f, derivative, x, zero=None):
    return of(f, lambda d, x: d * derivative(x), x, zero=zero)


@dataclass(frozen=True)
class Family:
    """Cases of one kind.

    case(rng, dtype) -> Case; doubt: the share of cases that may stay inconclusive although the
    gradient does not vanish, for one of `reasons`, explained in `why`.
    """

    name: str
    case: Callable[[np.random.Generator, str], Case]
    note: str
    doubt: float
    reasons: tuple[str, ...]
    why: str


def right(function=None, *, doubt=0.0, reasons=(), why=""):
    """Mark a function case(rng, dtype) as a family; its docstring is the family's note."""

    def mark(function):
        function.right = (doubt, tuple(reasons), why)
        return function

    return mark if function is None else mark(function)


def load(package="minillm.gradcheck.awkward"):
    """All families, in the order of their modules' names."""
    families = []
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{found.name}")
        families += [
            Family(f"{found.name}.{name}", function, " ".join(function.__doc__.split()), *terms)
            for name, function in vars(module).items()
            if (terms := getattr(function, "right", None))
        ]
    return families


def dims(rng, n, largest=5, least=1):
    """n sizes, any of them 1 at times."""
    return tuple(int(size) for size in rng.integers(least, largest + 1, n))


def normal(rng, dtype, *shape, scale=1.0, offset=0.0):
    return np.asarray(offset + scale * rng.standard_normal(shape)).astype(dtype)


def between(rng, dtype, low, high, *shape):
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def magnitude(rng, largest=8):
    """A power of ten between 1e-largest and 1e+largest."""
    return 10.0 ** int(rng.integers(-largest, largest + 1))


def tied(rng, dtype, *shape, values=4, scale=1.0):
    """A few whole numbers, so that many are equal."""
    return (scale * (1 + rng.integers(0, values, shape))).astype(dtype)


def pick(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def sum_to(gradient, shape):
    """Sum a gradient over the axes along which an argument of this shape was broadcast."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axes, keepdims=True) if axes else gradient

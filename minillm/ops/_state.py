"""Which backend is active and who is listening: the state around a call, held in one ContextVar.

A ContextVar keeps two threads or two tests from changing each other's backend, and
`contextvars.copy_context().run` carries it into a worker thread.
"""

import contextlib
import dataclasses
import importlib
import inspect
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, ClassVar

from minillm.ops._trace import Step, Trace


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    backend: str = "fast"
    trace: Trace | None = None
    depth: int = 0


_STATE: ContextVar[State] = ContextVar("minillm_state", default=State())  # noqa: B039 (frozen)

current = _STATE.get


class Host:
    """Where the arrays of the CPU's backends live: in the computer's memory. Nothing moves.

    Another backend's device has the same four: how many threads may run its ops at a time (None:
    any number), `put` and `get`, which move a nest of arrays there and back, and `optimizer`, which
    makes of an update rule one for arrays that live there, with the same methods.
    """

    threads: int | None = None

    def put(self, nest):
        return nest

    def get(self, nest):
        return nest

    def optimizer(self, rule):
        return rule


HOST = Host()


class Registry:
    """Every op's pairs, by backend. "numpy" is the reference and the fallback of all others."""

    devices: ClassVar[dict[str, Any]] = {}  # backend -> where its arrays live; others: HOST
    ops: ClassVar[dict[str, dict[str, tuple[Any, Any]]]] = {}
    modules: ClassVar[dict[str, str]] = {"fast": "minillm.ops.fast"}  # backend -> its module
    loaded: ClassVar[set[str]] = {"numpy"}

    @classmethod
    def define(cls, name, forward, backward):
        owner, *_ = cls.ops.get(name, {}).get("numpy", (forward,))
        if owner.__module__ != forward.__module__:  # the same module: a notebook's cell, run again
            raise ValueError(f"{owner.__module__} has an op {name!r} already: choose another name")
        cls.ops.setdefault(name, {})["numpy"] = (forward, backward)

    @classmethod
    def register(cls, name, backend, forward, backward):
        if backend == "numpy":
            raise ValueError(f"{name}: the numpy pair is the specification and is not replaced")
        if name not in cls.ops:
            raise ValueError(f"there is no op named {name!r} to register a {backend} pair for")
        expected, came = map(inspect.signature, (cls.ops[name]["numpy"][0], forward))
        if _parameters(expected) != _parameters(came):
            raise ValueError(
                f"{name}: the signature must be the reference's {expected}, got {came}"
            )
        cls.ops[name][backend] = (forward, backward)

    @classmethod
    def pair(cls, name, backend):
        pairs = cls.ops.get(name)
        if pairs is None:
            raise ValueError(f"{name} has no backward yet: add one with @{name}.defbackward")
        return pairs.get(backend) or pairs["numpy"]

    @classmethod
    def load(cls, backend):
        """Import the module behind a backend's name, once."""
        if backend in cls.loaded:
            return
        found = {e.name: e.value for e in entry_points(group="minillm.backends")} | cls.modules
        by_hand = {name for pairs in cls.ops.values() for name in pairs}
        if backend not in found.keys() | by_hand:
            known = ", ".join(sorted(cls.loaded | found.keys() | by_hand))
            raise ValueError(f"unknown backend {backend!r}; this installation has: {known}")
        if backend in found:  # also where one of its pairs has been registered already
            importlib.import_module(found[backend])
        cls.loaded.add(backend)


def _parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@contextlib.contextmanager
def backend(name):
    """Run the ops inside `with minillm.backend(name):` by that backend's pairs.

    Raises
    ------
    ValueError
        for a name that no installed package provides.
    """
    Registry.load(name)
    token = _STATE.set(dataclasses.replace(current(), backend=name))
    try:
        yield
    finally:
        _STATE.reset(token)


def device():
    """Where the arrays of the active backend live, see `Host`."""
    return Registry.devices.get(current().backend, HOST)


@contextlib.contextmanager
def trace(*, values=False):
    """List every op that runs inside `with minillm.trace() as steps:`, forward and backward.

    Parameters
    ----------
    values : bool, keep a copy of each op's inputs and outputs too

    Returns
    -------
    steps : Trace, a list of `Step` that prints as a table, in a terminal and in a notebook
    """
    steps = Trace(values=values)
    token = _STATE.set(dataclasses.replace(current(), trace=steps, depth=0))
    try:
        yield steps
    finally:
        _STATE.reset(token)


@contextlib.contextmanager
def record(state, name, function, positional, args, kwargs):
    """Add one step to the running trace; ops called inside it stand one level deeper."""
    step = Step.begin(state, name, function, positional, args, kwargs)
    state.trace.append(step)
    token = _STATE.set(dataclasses.replace(state, depth=state.depth + 1))
    try:
        yield step
    finally:
        _STATE.reset(token)


def numeric_error(op_name, label, value):
    came = getattr(value, "dtype", None)
    came = type(value).__name__ if came is None else f"dtype {came}"
    return f"{op_name}: {label} must be an array of float32 or float64, got {came}"

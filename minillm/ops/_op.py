"""The one decorator: it turns a forward and a backward into an op.

An op is called like the plain function it wraps. Behind the call stand four small services: the
arrays' dtypes are checked, the active backend's pair is chosen, the cache remembers which pair made
it, and a running `trace` hears of the call. Nothing else happens here; the mathematics is in the
files beside this one.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from minillm.ops._state import Registry, current, numeric_error, record
from minillm.ops._trace import describe

__all__ = ["Cache", "Op", "check_shape", "op", "register", "sum_to_shape"]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Op(Protocol):
    """What `@op` returns, for a type checker."""

    __name__: str
    backward: Callable[[Any, "Cache"], Any]
    defbackward: Callable[[Callable], Callable]

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, "Cache"]: ...


class Cache:
    """What a forward leaves for its backward: the saved values and the pair that saved them."""

    __slots__ = ("_backward", "op", "out", "saved")

    def __init__(self, op_name, backward, saved, out):
        self.op, self._backward, self.saved = op_name, backward, saved
        self.out = _looks(out)

    def __repr__(self):
        return f"<cache of {self.op}>"

    def __reduce__(self):
        raise TypeError(f"a cache of {self.op} holds a live backward and cannot be pickled")


def op(forward) -> Op:
    """Make an op of a readable forward; its backward follows with `@name.defbackward`.

    Positional parameters are differentiated, keyword-only ones are not. The decorated function
    returns `(out, cache)`, and `name.backward(dout, cache)` returns one gradient for each
    positional parameter, in their order.

    Raises
    ------
    ValueError
        if a positional argument is not float32 or float64, or if they differ in dtype.
    """
    name = forward.__name__
    parameters = inspect.signature(forward).parameters.values()
    positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)

    @functools.wraps(forward)
    def call(*args, **kwargs):
        dtype = None
        for label, value in zip(positional, args, strict=False):
            dtype = _check_floats(name, label, value, dtype)
        for label in kwargs.keys() & positional:
            dtype = _check_floats(name, label, kwargs[label], dtype)
        state = current()
        pair_forward, pair_backward = Registry.pair(name, state.backend)
        if state.trace is not None:
            with record(state, name, forward, positional, args, kwargs) as step:
                out, saved = pair_forward(*args, **kwargs)
                step.finish(out)
        else:
            out, saved = pair_forward(*args, **kwargs)
        return out, Cache(name, pair_backward, saved, out)

    dispatch: Any = call  # with attributes, as Op says

    def defbackward(backward):
        @functools.wraps(backward)
        def dispatch_backward(dout, cache):
            if not isinstance(cache, Cache) or cache.op != name:
                raise ValueError(f"{backward.__name__}: cache must come from {name}, got {cache!r}")
            dout = _check_dout(name, "dout", dout, cache.out)
            state = current()
            if state.trace is not None:
                with record(state, backward.__name__, backward, ("dout",), (dout,), {}) as step:
                    grads = cache._backward(dout, cache.saved)
                    step.finish(grads)
                return grads
            return cache._backward(dout, cache.saved)

        Registry.define(name, forward, backward)
        dispatch.backward = dispatch_backward
        return dispatch_backward

    dispatch.defbackward = defbackward
    dispatch.positional = positional
    return dispatch


def register(name, backend, forward, backward):
    """Give `backend` its own pair for the op `name`; the signature must be the reference's.

    Raises
    ------
    ValueError
        for an unknown op, another signature than the reference's, or the backend "numpy": the
        reference is never replaced.
    """
    Registry.register(name, backend, forward, backward)


def check_shape(name, array, expected):
    """Refuse an array whose shape is not `expected`; None in `expected` stands for any length.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    shape = array.shape
    if len(shape) != len(expected) or any(
        e is not None and s != e for s, e in zip(shape, expected, strict=True)
    ):
        wanted = "(" + ", ".join("any" if e is None else str(e) for e in expected)
        wanted += ",)" if len(expected) == 1 else ")"
        raise ValueError(f"{name} must have shape {wanted}, got {shape}")


def sum_to_shape(gradient, shape):
    """Sum a gradient over the axes along which its parameter, of `shape`, was broadcast."""
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        axis + extra for axis, n in enumerate(shape) if n == 1 and gradient.shape[axis + extra] != 1
    )
    summed = gradient.sum(axis=axes, keepdims=True) if axes else gradient
    return summed.reshape(shape)


def _check_floats(op_name, label, value, dtype):
    """Walk an argument's arrays: all float32 or all float64. Returns the dtype seen."""
    if value is None:
        return dtype
    if isinstance(value, dict):
        for key, child in value.items():
            dtype = _check_floats(op_name, f"{label}[{key!r}]", child, dtype)
        return dtype
    if isinstance(value, list | tuple):
        for index, child in enumerate(value):
            dtype = _check_floats(op_name, f"{label}[{index}]", child, dtype)
        return dtype
    came = getattr(value, "dtype", None)
    if came is None or (came != FLOAT32 and came != FLOAT64):
        raise ValueError(numeric_error(op_name, label, value))
    if dtype is not None and came != dtype:
        raise ValueError(f"{op_name}: {label} is {came}, but the arguments before it are {dtype}")
    return came


def _looks(out):
    """What an output looks like, its arrays as (shape, dtype): `dout` must look the same."""
    if isinstance(out, dict):
        return {key: _looks(child) for key, child in out.items()}
    if isinstance(out, list | tuple):
        return [_looks(child) for child in out]
    return (out.shape, out.dtype) if hasattr(out, "shape") else None


def _check_dout(op_name, label, dout, looks, inner=False):
    """The upstream gradient must look like the output; a Python number serves for a scalar.

    Where there are several outputs, None stands for a gradient of zero.
    """
    if dout is None and inner:
        return None
    if isinstance(looks, list | dict):
        keys = looks.keys() if isinstance(looks, dict) else range(len(looks))
        fits = isinstance(dout, dict if isinstance(looks, dict) else list | tuple)
        if not fits or len(dout) != len(looks) or (isinstance(looks, dict) and dout.keys() != keys):
            raise ValueError(
                f"{op_name}_backward: {label} must mirror the {len(looks)} outputs of {op_name}, "
                f"None for those without a gradient; got {describe(dout)}"
            )
        children = {
            key: _check_dout(op_name, f"{label}[{key!r}]", dout[key], looks[key], True)
            for key in keys
        }
        return children if isinstance(looks, dict) else tuple(children.values())
    if looks is None:
        return dout
    shape, dtype = looks
    if shape == () and isinstance(dout, int | float):
        return dtype.type(dout)
    if getattr(dout, "shape", None) != shape or getattr(dout, "dtype", None) != dtype:
        came = getattr(dout, "dtype", type(dout).__name__)
        came = f"{came} of shape {dout.shape}" if hasattr(dout, "shape") else came
        raise ValueError(
            f"{op_name}_backward: {label} must be {dtype} of shape {shape}, got {came}"
        )
    return dout

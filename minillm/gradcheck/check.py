"""The checks a person calls: an op, a pair of functions, a function and its vjp, a layer."""

import copy
import inspect

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.arguments import parse_argument
from minillm.gradcheck.docstring import documented, sized
from minillm.gradcheck.drawing import filled, is_shape
from minillm.gradcheck.layer import LayerPair
from minillm.gradcheck.problem import Problem, argument_names
from minillm.gradcheck.replay import replay_line
from minillm.gradcheck.run import Setting, run

__all__ = ["check_function", "check_layer", "check_op", "check_vjp"]


def check_vjp(forward, backward, args, kwargs=None, *, names=None, **options):
    """Check a backward against the numerical derivative of its forward.

    Parameters
    ----------
    forward : forward(*args, **kwargs) -> (out, cache)
    backward : backward(dout, cache) -> one gradient for each argument that holds floating arrays,
        in their order (the bare gradient where there is one); None may stand for the others
    args : sequence of arrays, nests of them (dict, list, tuple), None, or constants (integers,
        strings, integer arrays); float32 and float64 arrays of NumPy, CuPy or torch are
        differentiated
    kwargs : keyword arguments of forward, copied before each call
    names : the arguments' names; forward's own by default
    seed : int, of the directions and upstream gradients
    scope : "default", or "full" to compare every element
    rtol : relative tolerance; ten times the square root of the dtype's precision by default
    allow_zero : names of arguments or leaves whose gradient may vanish, or True for all
    diagnose : whether to look for the mistake behind a failure

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        for options or arguments that make no check; what forward and backward raise passes through.
    """
    problem = Problem(forward, backward, _sequence(args), kwargs, names)
    called = f"check_vjp({_name(forward)}, {_name(backward, 'backward')}"
    return _checked(problem, _name(forward), called, args, kwargs, names, options)


def check_function(f, vjp, args, kwargs=None, *, names=None, **options):
    """Check vjp(dout, *args, **kwargs) -> gradients against f(*args, **kwargs) -> out.

    The other parameters, the report and the errors are those of `check_vjp`.
    """

    def forward(*args, **kwargs):
        kept = copy.deepcopy(kwargs)  # f may advance a generator, and vjp wants to do the same
        return f(*args, **kwargs), (args, kept)

    def backward(dout, cache):
        args, kwargs = cache
        return vjp(dout, *args, **copy.deepcopy(kwargs))

    args = _sequence(args)
    names = argument_names(f, len(args)) if names is None else names
    problem = Problem(forward, backward, args, kwargs, names)
    called = f"check_function({_name(f, 'f')}, {_name(vjp, 'vjp')}"
    return _checked(problem, _name(f), called, args, kwargs, names, options)


def check_layer(layer, *inputs, params="params", grads="grads", names=None, **options):
    """Check an object with forward(*inputs) -> out and backward(dout) -> input gradients.

    Parameters
    ----------
    layer : holds its parameters in a dict and leaves their gradients in another, under the same
        names or with a d before them, or both in lists; copied for each evaluation, never changed
    *inputs : arrays and constants for forward
    params, grads : names of the two containers among the layer's attributes; params may also list
        attributes that are parameters, `params=("W", "b")`, with gradients in `dW` and `db` or
        those that grads lists; `params=()` for none
    **options : as for `check_vjp`

    Returns
    -------
    Report
    """
    pair = LayerPair(layer, params, grads, inputs)
    labels = [*(argument_names(layer.forward, len(inputs)) if names is None else names)]
    args = [*inputs, pair.parameters()]
    problem = Problem(pair.forward, pair.backward, args, None, [*labels, "params"])
    subject = type(layer).__name__
    called = f"check_layer({subject.lower()}, "
    told = {k: v for k, v in (("params", params), ("grads", grads)) if v != k} | options
    line = replay_line(called[:-2], inputs, None, names, told).replace(called, f"{called}*", 1)
    return run(problem, subject, Setting(**options), line)


def check_op(op, inputs=None, kwargs=None, **options):
    """Check an op: a function with `.backward`, differentiated by its positional parameters.

    Parameters
    ----------
    op : op(*positional, **keyword_only) -> (out, cache), op.backward(dout, cache) -> gradients
    inputs : {name: shape, array, nest of those, or None}, or a sequence in positional order; a
        shape is an int or a tuple of ints and is filled with standard normal values. None: the
        shapes are drawn from the docstring, as in `x : (..., C)`
    kwargs, **options : as for `check_vjp`

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        for an op without a backward, or inputs that are missing or of other names than the op's.
    """
    if not callable(getattr(op, "backward", None)):
        raise ValueError(f"{_name(op)} has no .backward; use check_vjp(forward, backward, args)")
    positional = _positional(op)
    given = _by_name(op, positional, inputs)
    kwargs = dict(kwargs or {})
    seed = options.get("seed", 0)
    if inputs is None:
        given |= _documented(op, positional, kwargs, seed)
    required = [p.name for p in positional if p.default is p.empty and p.name not in given]
    if required:
        raise ValueError(
            f"{_name(op)}: inputs must give {', '.join(required)}; "
            f"for one inputs={{{required[0]!r}: (4, 7)}}"
        )
    names = [p.name for p in positional]
    rng = np.random.default_rng([seed, 1])
    args = [filled(given[p.name], rng) if p.name in given else p.default for p in positional]
    problem = Problem(op, op.backward, args, kwargs, names)
    exact = all(leaf is None or is_shape(leaf) for leaf in given.values())
    called = f"check_op({_name(op)}" + (f", {given}" if exact else "")
    return _checked(problem, _name(op), called, None if exact else args, kwargs, None, options)


def _checked(problem, subject, called, args, kwargs, names, options):
    setting = Setting.of(options)
    line = replay_line(called, args, kwargs, names, options)
    return run(problem, subject, setting, line)


def _sequence(args):
    if not isinstance(args, list | tuple):
        what = "an array" if arrays.is_array(args) else type(args).__name__
        raise ValueError(f"args must be a sequence, one entry an argument; got {what}")
    return args


def _name(function, unnamed="forward"):
    name = getattr(function, "__name__", None) or type(function).__name__
    return unnamed if name == "<lambda>" else name


def _positional(op):
    parameters = inspect.signature(op).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _by_name(op, positional, inputs):
    """The inputs as {name: value}."""
    known = [p.name for p in positional]
    if inputs is None:
        return {}
    if not isinstance(inputs, dict):
        values = list(_sequence(inputs))
        if len(values) > len(known):
            raise ValueError(f"{_name(op)} takes {', '.join(known)}; got {len(values)} inputs")
        return dict(zip(known, values, strict=False))
    unknown = inputs.keys() - set(known)
    if unknown:
        raise ValueError(
            f"{_name(op)} has no positional parameter {', '.join(sorted(unknown))}; it takes "
            f"{', '.join(known)} (the rest goes into kwargs)"
        )
    return dict(inputs)


def _documented(op, positional, kwargs, seed):
    """Shapes of the positional parameters from the docstring; keyword arrays go into kwargs."""
    arrays_said = documented(op)
    found = {}
    for path, text in sized(arrays_said, {}).items():
        argument = parse_argument(f"{path}={text}")
        if any(p.name == path for p in positional) and arrays_said[path].kind == "float":
            found[path] = argument.shape
        elif path in inspect.signature(op).parameters and path not in kwargs:
            parameter = inspect.signature(op).parameters[path]
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                kwargs[path] = argument.draw(seed, np.float64)
    return found

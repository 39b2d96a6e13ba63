"""How a student's functions are called, in their own process; and the reference's, in the grader.

A driver `name(modules, kept, case) -> tree` holds no answers. `modules("layer_norm")` imports a
module by its flat name; `kept` lives as long as the process, so that a later call finds a cache.
"""

import numpy as np


def _function(modules, case):
    return getattr(modules(case["module"]), case["function"])


def _named(case, out, grads=None):
    """{"out": ..., "dx": ..., ...}: what a judge and a reader know by name."""
    result = {"out": out}
    names = case.get("gradients")
    if grads is not None:
        grads = (grads,) if len(names) == 1 else grads
        if not isinstance(grads, tuple | list) or len(grads) != len(names):
            came = len(grads) if isinstance(grads, tuple | list) else type(grads).__name__
            raise ValueError(f"backward must return {len(names)} gradients, got {came}")
        result.update(zip(names, grads, strict=True))
    return result


def call(modules, kept, case):
    """A plain function: what it returns."""
    return {"out": _function(modules, case)(*case.get("args", ()), **case.get("kwargs", {}))}


def forward(modules, kept, case):
    """An op's output; the cache is kept under case["keep"], where there is such a key."""
    out, cache = _function(modules, case)(*case["args"], **case["kwargs"])
    if "keep" in case:
        kept[case["keep"]] = cache
    return _named(case, out)


def pair(modules, kept, case):
    """An op's output and its gradients."""
    f = _function(modules, case)
    out, cache = f(*case["args"], **case["kwargs"])
    return _named(case, out, f.backward(case["dout"], cache))


def calls(modules, kept, case):
    """The second of two calls on the same arrays, which lie with gaps between their elements.

    A function that writes to its inputs is found out by the second answer.
    """
    case = case | {"args": [_strided(x) for x in case["args"]]}
    pair(modules, kept, case)
    return pair(modules, kept, case)


def _strided(x):
    if isinstance(x, dict):
        return {key: _strided(child) for key, child in x.items()}
    if isinstance(x, list | tuple):
        return [_strided(child) for child in x]
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return x
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def put(modules, kept, case):
    """Keep a case for `timed_forward` and `timed_backward`, and import its module."""
    kept["case"] = case
    _function(modules, case)
    return None


def timed_forward(modules, kept, case):
    f = _function(modules, kept["case"])
    out, kept["cache"] = f(*kept["case"]["args"], **kept["case"]["kwargs"])
    return {"out": out}


def timed_backward(modules, kept, case):
    f = _function(modules, kept["case"])
    return _named(kept["case"], None, f.backward(kept["case"]["dout"], kept["cache"]))


def backward(modules, kept, case):
    """An op's gradients, from the cache that `forward` kept under case["keep"]."""
    f = _function(modules, case)
    return _named(case, None, f.backward(case["dout"], kept[case["keep"]]))

"""How a student's functions are called, in their own process; and the reference's, in the grader.

A driver `name(modules, kept, case) -> tree` holds no answers. `modules("layer_norm")` imports a
module by its flat name; `kept` lives as long as the process, so that a later call finds a cache.
"""

import numpy as np


def _function(modules, case):
    return getattr(modules(case["module"]), case["function"])


def _named(case, out, *grads):
    """{"out": ..., "dx": ..., ...}: what a judge and a reader know by name."""
    result = {"out": out}
    if grads:
        names, came = case["gradients"], grads[0]
        wanted = f"must return {', '.join(names)}"
        if len(names) == 1:
            if came is None or isinstance(came, tuple | list):
                raise ValueError(f"the backward {wanted}, an array; got {_kind(came)}")
            came = (came,)
        if not isinstance(came, tuple | list) or len(came) != len(names):
            raise ValueError(f"the backward {wanted}, in this order; got {_kind(came)}")
        result.update(zip(names, came, strict=True))
    return result


def _run(f, case, args):
    """(out, cache) of an op's forward."""
    came = f(*args, **case["kwargs"])
    if not isinstance(came, tuple) or len(came) != 2:
        wanted = f"{case['function']} must return two things, its output and a cache"
        raise ValueError(f"{wanted}; got {_kind(came)}")
    return came


def _kind(x):
    if isinstance(x, tuple | list):
        return f"a {type(x).__name__} of {len(x)}"
    return "None" if x is None else f"one {type(x).__name__}"


def call(modules, kept, case):
    """A plain function: what it returns."""
    return {"out": _function(modules, case)(*case.get("args", ()), **case.get("kwargs", {}))}


def forward(modules, kept, case):
    """An op's output. Under case["keep"] its cache is kept, until a later case's "forget" has it.

    With "changed" among the case's keys, also the arguments that the call wrote to, by position.
    """
    args = case["args"]
    before = _copied(args) if "changed" in case else None
    out, cache = _run(_function(modules, case), case, args)
    _keep(kept, case, (cache, args))
    return _named(case, out) | _changed(before, args)


def pair(modules, kept, case):
    """An op's output and its gradients."""
    f = _function(modules, case)
    out, cache = _run(f, case, case["args"])
    return _named(case, out, f.backward(case["dout"], cache))


def calls(modules, kept, case):
    """The second of two calls on the same arrays, which lie with gaps between their elements.

    With "written", the positions of what a call wrote to, dout coming after the arguments.
    """
    arrays = [_strided(x) for x in [*case["args"], case["dout"]]]
    case = case | {"args": arrays[:-1], "dout": arrays[-1]}
    before = [_bytes(x) for x in arrays]
    pair(modules, kept, case)
    result = pair(modules, kept, case)
    written = [i for i, x in enumerate(arrays) if _bytes(x) != before[i]]
    return result | ({"written": written} if written else {})


def gaps(modules, kept, case):
    """One call on arrays that lie with gaps between their elements."""
    return pair(modules, kept, case | {"args": [_strided(x) for x in case["args"]]})


def twice(modules, kept, case):
    """The second of two calls on the same arrays, without gaps; "changed" has those written to."""
    arrays = [*case["args"], case["dout"]]
    before = _copied(arrays)
    pair(modules, kept, case)
    return pair(modules, kept, case) | _changed(before, arrays)


def _bytes(x):
    """What a nest of arrays holds."""
    if isinstance(x, dict | list | tuple):
        return [_bytes(child) for child in (x.values() if isinstance(x, dict) else x)]
    return x.tobytes() if isinstance(x, np.ndarray) else None


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
    """Import a module, so that `timed_forward` need not."""
    _function(modules, case)


def timed_forward(modules, kept, case):
    """An op's output; the cache is kept for `timed_backward`."""
    out, cache = _run(_function(modules, case), case, case["args"])
    kept["timed"] = case, cache
    return {"out": out}


def timed_backward(modules, kept, case):
    before, cache = kept["timed"]
    return _named(before, None, _function(modules, before).backward(case["dout"], cache))


def backward(modules, kept, case):
    """An op's gradients, from the cache that `forward` kept under case["keep"].

    With "changed" among the case's keys, also what it wrote to: forward's arguments, then dout.
    """
    f = _function(modules, case)
    cache, args = kept["caches"][case["keep"]]
    arrays = [*args, case["dout"]]
    before = _copied(arrays) if "changed" in case else None
    return _named(case, None, f.backward(case["dout"], cache)) | _changed(before, arrays)


def _keep(kept, case, what):
    """Keep what a later request asks for by its key: not more than a few."""
    caches = kept.setdefault("caches", {})
    for key in case.get("forget", ()):
        caches.pop(key, None)
    if "keep" in case:
        while len(caches) >= 32:
            caches.pop(next(iter(caches)))
        caches[case["keep"]] = what


def _copied(arrays):
    return [np.array(x) if isinstance(x, np.ndarray) else None for x in arrays]


def _changed(before, arrays):
    """{"changed": {position: array}} of those that are not what they were before."""
    if before is None:
        return {}
    pairs = enumerate(zip(before, arrays, strict=True))
    return {
        "changed": {i: x for i, (b, x) in pairs if b is not None and x.tobytes() != b.tobytes()}
    }


def with_cause(modules, kept, case):
    """What another driver returns, and the cause that the student's file names."""
    cause = getattr(modules(case["module"]), "CAUSE", None)
    return {"cause": cause, "answer": globals()[case["drive"]](modules, kept, case["case"])}

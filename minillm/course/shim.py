"""Stands for minillm's `@op` in the files of an assignment: no backends, no checks, no trace.

An op is a function that returns (out, cache), with its backward as an attribute:

    y, cache = layer_norm(x, gain, bias)
    dx, dgain, dbias = layer_norm.backward(dy, cache)
"""

import inspect


def op(forward):
    """Make an op of a forward; its backward follows with `@name.defbackward`."""

    def defbackward(backward):
        forward.backward = backward
        return backward

    forward.defbackward = defbackward
    parameters = inspect.signature(forward).parameters.values()
    forward.positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return forward

"""Between a nest of parameters and the positional arguments of the ops inside a larger op."""

from minillm.tree import flatten, unflatten


def pick(label, params, names, optional=()):
    """The arrays called `names`, as in "up.weight", in that order; None for an absent optional one.

    Raises
    ------
    ValueError
        naming the arrays that are missing or not expected.
    """
    flat = flatten(params)
    missing = [name for name in names if name not in flat and name not in optional]
    extra = [name for name in flat if name not in names]
    if missing or extra:
        raise ValueError(
            f"{label} must hold {', '.join(names)}: missing {missing}, not expected {extra}"
        )
    return [flat.get(name) for name in names]


def put_back(params, names, grads):
    """The gradients of what `pick` picked, as a nest of the same structure as params."""
    found = {name: grad for name, grad in zip(names, grads, strict=True) if grad is not None}
    return unflatten(found, params)

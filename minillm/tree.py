"""Nests of arrays: a model's parameters are dicts and lists with arrays as leaves.

A leaf's name is its path joined by dots, as in `blocks.0.attention.qkv.weight`. None is an absent
leaf and stays None.
"""

__all__ = ["flatten", "leaves", "map_leaves", "unflatten"]


def leaves(tree, prefix=""):
    """Yield (name, array) for every leaf, in the order in which the nest holds them."""
    if tree is None:
        return
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from leaves(child, f"{prefix}{key}.")
    elif isinstance(tree, list | tuple):
        for index, child in enumerate(tree):
            yield from leaves(child, f"{prefix}{index}.")
    else:
        yield prefix[:-1], tree


def flatten(tree):
    """A nest as one flat dict, {name: array}."""
    return dict(leaves(tree))


def map_leaves(function, tree, *others):
    """Apply `function` to the leaves of one or more nests of the same structure."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {k: map_leaves(function, v, *(o[k] for o in others)) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        children = [
            map_leaves(function, child, *(o[i] for o in others)) for i, child in enumerate(tree)
        ]
        named = hasattr(tree, "_fields")  # a namedtuple takes its fields one by one
        return type(tree)(*children) if named else type(tree)(children)
    return function(tree, *others)


def unflatten(flat, like):
    """The inverse of `flatten`: the arrays of `flat` in the structure of `like`.

    Raises
    ------
    ValueError
        naming the arrays that are missing, left over, or of another shape than in `like`.
    """
    expected = flatten(like)
    missing, extra = sorted(expected.keys() - flat.keys()), sorted(flat.keys() - expected.keys())
    if missing or extra:
        raise ValueError(f"parameters do not match: missing {missing}, not expected {extra}")
    for name, leaf in expected.items():
        if flat[name].shape != leaf.shape:
            raise ValueError(f"{name} must have shape {leaf.shape}, got {flat[name].shape}")
    names = iter(expected)
    return map_leaves(lambda _: flat[next(names)], like)

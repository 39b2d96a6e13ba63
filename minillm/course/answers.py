"""An answer beside its case: parts of it, and the precision that it is in."""

import numpy as np

__all__ = ["narrowed", "picked", "widened", "written"]


def picked(tree, names):
    """The entries of an answer at some paths, through lists; the judge sees where there is none."""
    if isinstance(tree, list | tuple):
        return [picked(child, names) for child in tree]
    if not isinstance(tree, dict):
        return tree
    found = {}
    for head, _, rest in (name.partition(".") for name in names):
        if head in tree:
            found[head] = picked(tree[head], (rest,)) if rest else tree[head]
    return found


def written(names, places):
    """What is wrong where a call wrote to arrays at some places; the places are a mere claim."""
    known = [name for i, name in enumerate(names) if isinstance(places, list) and i in places]
    what = " and ".join(known) or "an argument"
    return f"{what} was written to: what a caller gave must stay as it is"


def widened(case):
    """A case in float64, whatever its floats are: the reference's answer has no rounding then."""

    def wide(x):
        if isinstance(x, dict):
            return {key: wide(child) for key, child in x.items()}
        if isinstance(x, list | tuple):
            return type(x)(map(wide, x))
        single = isinstance(x, np.ndarray) and x.dtype == np.float32
        return x.astype(np.float64) if single else x

    return case | {"args": wide(case["args"]), "dout": wide(case["dout"])}


def narrowed(tree, case):
    """An answer in the dtype of a case's first floats."""
    dtypes = [x.dtype for x in case["args"] if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    dtype = dtypes[0] if dtypes else np.dtype(np.float64)

    def narrow(x):
        if isinstance(x, dict):
            return {key: narrow(child) for key, child in x.items()}
        if isinstance(x, list | tuple):
            return type(x)(map(narrow, x))
        floats = isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"
        return np.asarray(x, dtype) if floats else x

    return narrow(tree)

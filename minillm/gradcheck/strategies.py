"""Hypothesis strategies for what a layer is fed: shapes, memory layouts, masks, ids, magnitudes.

Every array is filled from one drawn seed, not element by element: a large one costs as much to draw
as a small one, and a failing case shrinks to the smallest shape that still fails. Hypothesis prints
it as the call that makes it, `filled((2, 3), seed=1)`, which needs no Hypothesis (see fill.py).

Left out: strategies for single elements, see hypothesis.extra.numpy.
"""

import math

import numpy as np
from hypothesis import strategies as st

from minillm.gradcheck.fill import (
    broadcast,
    contiguous,
    filled,
    filled_ids,
    filled_mask,
    reversed_axes,
    strided,
    transposed,
)

__all__ = [
    "arrays",
    "dims",
    "dtypes",
    "ids",
    "inputs",
    "layouts",
    "magnitudes",
    "masks",
    "seeds",
    "shapes",
    "sizes",
]

LARGEST_SEED = 2**32 - 1

seeds = st.integers(0, LARGEST_SEED)
# Hypothesis shrinks towards the first: a failure that needs neither float32 nor a layout has none.
dtypes = st.sampled_from([np.dtype(np.float64), np.dtype(np.float32)])
layouts = st.sampled_from([contiguous, transposed, strided, reversed_axes, broadcast])


@st.composite
def sizes(draw, n, largest=5, *, ones=True, zero=False):
    """n sizes, no two alike but for ones: a transposed axis cannot hide.

    Parameters
    ----------
    n : int
    largest : int, the largest size; raised where n distinct ones need it
    ones : bool, whether a size may be 1
    zero : bool, whether a size may be 0; shrinking leaves it only where the failure needs it

    Returns
    -------
    sizes : strategy of tuples of n ints
    """
    left, drawn = list(range(2, max(largest, n + 1) + 1)), []
    for _ in range(n):
        size = draw(st.sampled_from([1] * ones + left + [0] * zero))
        drawn.append(size)
        if size > 1:
            left.remove(size)
    return tuple(drawn)


def shapes(least=1, most=3, largest=5, *, ones=True, zero=False):
    """A shape of `least` to `most` axes, of `sizes`."""
    if not 0 <= least <= most:
        raise ValueError(f"shapes needs 0 <= least <= most, got least={least}, most={most}")
    return st.integers(least, most).flatmap(lambda n: sizes(n, largest, ones=ones, zero=zero))


@st.composite
def dims(draw, names, largest=5, *, ones=True, zero=False):
    """Distinct sizes by name, `dims("B T C")` -> {"B": 2, "T": 5, "C": 1}.

    The name `...` stands for up to two axes; its value is the tuple of their sizes.

    Parameters
    ----------
    names : str, names between spaces, or a sequence of names
    largest, ones, zero : see `sizes`

    Returns
    -------
    dims : strategy of dicts
    """
    names = list(dict.fromkeys(names.split() if isinstance(names, str) else names))
    count = {name: draw(st.integers(0, 2)) if name == "..." else 1 for name in names}
    drawn = iter(draw(sizes(sum(count.values()), largest, ones=ones, zero=zero)))
    return {
        name: next(drawn) if name != "..." else tuple(next(drawn) for _ in range(count[name]))
        for name in names
    }


def magnitudes(dtype="float64", least=0.0, most=math.inf):
    """Powers of ten from the dtype's smallest number to its largest; shrinks to 1.

    Values of the largest magnitudes are finite, but nearly all that is made of them overflows.

    Parameters
    ----------
    dtype : float32 or float64
    least, most : float, narrower bounds

    Returns
    -------
    magnitudes : strategy of floats
    """
    info = np.finfo(dtype)
    first = math.ceil(math.log10(max(least, float(info.smallest_subnormal))))
    last = math.floor(math.log10(min(most, float(info.max))))
    if first > last:
        raise ValueError(f"magnitudes: no power of ten from {least} to {most} in {info.dtype}")
    return st.integers(first, last).map(lambda exponent: float(f"1e{exponent}"))


@st.composite
def arrays(draw, shape, *, dtype="float64", magnitude=1.0, layout=contiguous, seed=seeds):
    """Arrays of normal values, filled from one drawn seed.

    Each parameter may be a value or a strategy.

    Parameters
    ----------
    shape : int or tuple of ints
    dtype : float32 or float64
    magnitude : float; also a function of the dtype, such as `magnitudes`
    layout : a function of an array, such as those of `layouts`
    seed : int

    Returns
    -------
    arrays : strategy of arrays
    """
    dtype = np.dtype(_drawn(draw, dtype)).name
    return draw(
        _call(
            filled,
            _as_shape(_drawn(draw, shape)),
            dtype=dtype,
            magnitude=_drawn(draw, magnitude(dtype) if callable(magnitude) else magnitude),
            layout=_drawn(draw, layout),
            seed=_drawn(draw, seed),
        )
    )


@st.composite
def masks(draw, shape, *, empty_rows=True, seed=seeds):
    """Boolean masks, True where something may be seen, with fully masked rows among them.

    Parameters
    ----------
    shape : tuple of at least one int, or a strategy of them
    empty_rows : bool, whether rows (along the last axis) may be False throughout

    Returns
    -------
    masks : strategy of bool arrays
    """
    shape = _as_shape(_drawn(draw, shape))
    if not shape:
        raise ValueError("masks needs a shape of at least one axis, got ()")
    rows = math.prod(shape[:-1])
    keep = draw(st.sampled_from([1.0, 0.7, 0.3]))
    empty = draw(st.integers(0, rows)) if empty_rows else 0
    return draw(_call(filled_mask, shape, keep=keep, empty_rows=empty, seed=_drawn(draw, seed)))


@st.composite
def ids(draw, shape, n, *, dtype="int64", seed=seeds):
    """Ids in 0 ... n - 1 with repeats: at least one wherever there are two ids or more.

    Each parameter may be a value or a strategy.

    Parameters
    ----------
    shape : int or tuple of ints
    n : int, how many different ids there are to draw from
    dtype : an integer type

    Returns
    -------
    ids : strategy of int arrays
    """
    shape, n = _as_shape(_drawn(draw, shape)), _drawn(draw, n)
    if n < 1:
        raise ValueError(f"ids needs n >= 1 to draw from, got {n}")
    distinct = draw(st.integers(1, min(n, max(1, math.prod(shape) - 1))))
    options = {"dtype": np.dtype(_drawn(draw, dtype)).name, "seed": _drawn(draw, seed)}
    return draw(_call(filled_ids, shape, n, distinct=distinct, **options))


@st.composite
def inputs(draw, named=None, /, *, dtype="float64", magnitude=1.0, layout=contiguous, **specs):
    """All inputs of a layer, {name: array}, of one dtype and one set of distinct sizes.

    `inputs(x="B T C", gain="C", bias="C")`; `inputs(x="... C", gain="C")`;
    `inputs(dims("B T V C"), weight="V C", ids=lambda n: ids((n["B"], n["T"]), n["V"]))`.

    Parameters
    ----------
    named : {name: size} or a strategy of them, such as `dims`; by default the names in the shapes
    dtype, magnitude, layout : see `arrays`; magnitude and layout are drawn for each array
    **specs : a shape, as an int or a str or tuple of names and ints; a dict or list of such; None;
        a strategy; or a function of the sizes that gives a value or a strategy

    Returns
    -------
    inputs : strategy of dicts, in the order of the specs

    Raises
    ------
    ValueError
        naming the input, when its shape has a name that `named` does not give.
    """
    by_name = _drawn(draw, dims(_names(specs)) if named is None else named)
    dtype, seed = _drawn(draw, dtype), draw(seeds)

    def fill(spec, label):
        nonlocal seed
        if isinstance(spec, dict):
            return {key: fill(child, f"{label}.{key}") for key, child in spec.items()}
        if isinstance(spec, list):
            return [fill(child, f"{label}.{index}") for index, child in enumerate(spec)]
        if not isinstance(spec, str | tuple | int):
            return _drawn(draw, spec(by_name) if callable(spec) else spec)
        options = {"dtype": dtype, "magnitude": magnitude, "layout": layout, "seed": seed}
        seed = (seed + 1) % (LARGEST_SEED + 1)  # the next array's
        return draw(arrays(_sized(spec, by_name, label), **options))

    return {label: fill(spec, label) for label, spec in specs.items()}


def _axes(spec):
    """The axes that a spec lists: names, and ints where a size is given."""
    listed = spec.split() if isinstance(spec, str) else _as_shape(spec)
    return [int(a) if isinstance(a, str) and a.isdecimal() else a for a in listed]


def _names(spec):
    """The names of sizes that a spec uses, in their order."""
    if isinstance(spec, dict):
        return [name for child in spec.values() for name in _names(child)]
    if isinstance(spec, list):
        return [name for child in spec for name in _names(child)]
    if isinstance(spec, str | tuple):
        return [axis for axis in _axes(spec) if isinstance(axis, str)]
    return []


def _sized(spec, by_name, label):
    """The shape of a spec whose names have these sizes; `...` has several."""
    shape: list[int] = []
    for axis in _axes(spec):
        if isinstance(axis, str) and axis not in by_name:
            raise ValueError(f"{label}: no size is named {axis!r}; there are {list(by_name)}")
        size = by_name[axis] if isinstance(axis, str) else axis
        shape += size if isinstance(size, tuple) else [size]
    return tuple(shape)


def _as_shape(shape):
    return shape if isinstance(shape, tuple) else (shape,)


def _drawn(draw, value):
    """The value itself, or one drawn from it where it is a strategy."""
    return draw(value) if isinstance(value, st.SearchStrategy) else value


def _call(function, *args, **options):
    """A strategy that makes one call, printed by Hypothesis without the options left at default."""
    options = {k: v for k, v in options.items() if v != function.__kwdefaults__[k]}
    return st.builds(function, *map(st.just, args), **{k: st.just(v) for k, v in options.items()})

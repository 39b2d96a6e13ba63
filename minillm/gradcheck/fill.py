"""Arrays made from a seed, and the memory layouts that they may have: what the strategies draw.

The functions stand apart from the strategies so that a failing case can be made again without
Hypothesis, by the call that it printed.
"""

import math

import numpy as np

__all__ = [
    "broadcast",
    "contiguous",
    "filled",
    "filled_ids",
    "filled_mask",
    "reversed_axes",
    "strided",
    "transposed",
]


def contiguous(array):
    """A copy in C order."""
    return np.array(array, order="C")


def transposed(array):
    """The same values as the transpose of a C-ordered array."""
    return np.array(array.T, order="C").T


def strided(array):
    """The same values as every other element of a wider array, with NaN (-1 in ints) between."""
    between = np.array(np.nan if array.dtype.kind == "f" else -1).astype(array.dtype)
    view = np.full([2 * n for n in array.shape], between)[_every(array, 2)]
    view[...] = array
    return view


def reversed_axes(array):
    """The same values as a view that runs backwards along every axis: negative strides."""
    return array[_every(array, -1)].copy()[_every(array, -1)]


def broadcast(array):
    """The first slice along the first axis longer than 1, repeated with stride 0; read-only.

    The one layout that cannot hold any values: where an axis is longer than 1, others than the
    array's. `np.array(view)` has the view's values in memory of their own.
    """
    axis = next((axis for axis, n in enumerate(array.shape) if n > 1), None)
    once = array if axis is None else array[(slice(None),) * axis + (slice(0, 1),)]
    return np.broadcast_to(once.copy(), array.shape)


def filled(shape, *, seed=0, dtype="float64", magnitude=1.0, layout=contiguous):
    """Normal values from a seed, times a magnitude; those beyond the dtype's range are cut to it.

    Returns
    -------
    array : of shape `shape`
    """
    values = np.random.default_rng(seed).standard_normal(shape)
    limit = np.finfo(dtype).max
    with np.errstate(over="ignore", under="ignore"):
        return layout(np.clip(values * magnitude, -limit, limit).astype(dtype))


def filled_mask(shape, *, seed=0, keep=1.0, empty_rows=0):
    """A boolean mask, True where something may be seen; a row runs along the last axis.

    Parameters
    ----------
    shape : tuple of at least one int
    seed : int
    keep : float, the share of True outside of the empty rows, where each row has one at least
    empty_rows : int, how many rows are False throughout

    Returns
    -------
    mask : bool array of shape `shape`
    """
    rng = np.random.default_rng(seed)
    rows = rng.random((math.prod(shape[:-1]), shape[-1])) < keep  # (N, S)
    n_rows, length = rows.shape
    if length:
        rows[np.arange(n_rows), rng.integers(length, size=n_rows)] = True
    rows[rng.permutation(n_rows)[:empty_rows]] = False
    return rows.reshape(shape)


def filled_ids(shape, n, *, seed=0, distinct=1, dtype="int64"):
    """Ids in 0 ... n - 1, of which at most `distinct` different ones.

    Returns
    -------
    ids : int array of shape `shape`
    """
    rng = np.random.default_rng(seed)
    pool = rng.choice(n, distinct, replace=False)
    return pool[rng.integers(distinct, size=shape)].astype(dtype)


def _every(array, step):
    """An index that takes every `step`-th element along every axis, also where there is none."""
    return (slice(None, None, step),) * array.ndim + (...,)

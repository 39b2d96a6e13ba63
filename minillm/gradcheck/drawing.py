"""Inputs drawn from shapes."""

import numpy as np

__all__ = ["Drawn", "draw", "filled", "is_shape"]


class Drawn(tuple):
    """Arrays that remember the call of `draw` that made them."""

    recipe: str


def draw(*shapes, seed=0, dtype="float64"):
    """Standard normal arrays of the given shapes, for a check that can be replayed from its line.

    Parameters
    ----------
    *shapes : an int or a tuple of ints each; a dict or a list of them makes a nest; None stays None
    seed : int
    dtype : "float64" or "float32"

    Returns
    -------
    tuple of arrays, one for each shape
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    rng = np.random.default_rng(seed)
    made = Drawn(filled(shape, rng, dtype) for shape in shapes)
    parts = [*(repr(shape) for shape in shapes), f"seed={seed}"]
    parts += [f"dtype={dtype!r}"] if dtype != "float64" else []
    made.recipe = f"draw({', '.join(parts)})"
    return made


def is_shape(value):
    """Whether a value is an int, or a tuple of ints and nothing else."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return True
    return isinstance(value, tuple) and all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) for n in value
    )


def filled(shape, rng, dtype="float64"):
    """A nest with each shape replaced by a standard normal array; arrays stay as they are."""
    if shape is None:
        return None
    if is_shape(shape):
        full = shape if isinstance(shape, tuple) else (shape,)
        if any(n < 0 for n in full):
            raise ValueError(f"a shape has no negative sizes, got {shape}")
        return np.asarray(rng.standard_normal(full)).astype(dtype)
    if isinstance(shape, dict):
        return {key: filled(child, rng, dtype) for key, child in shape.items()}
    if isinstance(shape, list | tuple):
        return type(shape)([filled(child, rng, dtype) for child in shape])
    if isinstance(shape, int | float | str):
        raise ValueError(f"a shape is an int or a tuple of ints, got {shape!r}")
    return shape

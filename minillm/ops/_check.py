"""What an op asks of its integer inputs; their range is checked where a batch is made."""


def check_integers(name, array, shape=None):
    """Refuse an array that does not hold integers or, where `shape` is given, has another shape.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        came = type(array).__name__ if dtype is None else f"dtype {dtype}"
        raise ValueError(f"{name} must be an array of integers, got {came}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")

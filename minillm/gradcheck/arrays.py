"""Arrays of any library, seen from the host: NumPy, CuPy, torch and the array API standard's.

The checker computes in NumPy's float64 on the host; only the functions under test see the arrays'
own library. No library is imported here before one of its arrays has come.
"""

import numpy as np

__all__ = ["dtype_name", "host", "is_array", "is_float", "like", "restore", "same"]

CHECKABLE = ("float32", "float64")
LIBRARIES = ("numpy", "torch", "cupy")  # with ways of their own; others have the array API's


def library(array):
    """The library that an array is of, also where its class is somebody's own."""
    modules = [kind.__module__.partition(".")[0] for kind in type(array).__mro__]
    return next((name for name in modules if name in LIBRARIES), modules[0])


def is_array(value):
    """Whether a value has a dtype and a shape, as the arrays of all libraries have."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def dtype_name(array):
    """The dtype's bare name, "float32" for torch.float32 as for NumPy's."""
    return getattr(array.dtype, "name", None) or str(array.dtype).rpartition(".")[2]


def is_float(value):
    """Whether a value is an array with a derivative: float32 or float64.

    Raises
    ------
    ValueError
        for half precision, long double and complex arrays, which differences cannot judge.
    """
    if not is_array(value):
        return False
    name = dtype_name(value)
    if name in CHECKABLE:
        return True
    if "float" in name or "complex" in name:
        raise ValueError(f"arrays must be float32 or float64 to be differentiated, got {name}")
    return False


def host(array):
    """The values as a NumPy array in memory of its own, in their own dtype."""
    if library(array) == "torch":
        return array.detach().cpu().numpy().copy()
    if library(array) == "cupy":  # converts on an explicit call only
        return np.array(array.get())
    return np.array(array)


def like(values, template):
    """Host values as an array of the template's library, dtype and device.

    Raises
    ------
    ValueError
        for an array of a library that cannot make one from NumPy's.
    """
    if isinstance(template, np.generic):
        return template.dtype.type(values)
    if isinstance(template, float):
        return float(values)
    if isinstance(template, np.ndarray):
        return np.array(values, dtype=template.dtype)
    if library(template) == "torch":
        import torch

        made = torch.tensor(values, dtype=template.dtype, device=template.device)
        return made.requires_grad_(template.requires_grad)
    if library(template) == "cupy":
        import cupy

        with template.device:
            return cupy.asarray(values, dtype=template.dtype)
    if hasattr(template, "__array_namespace__"):
        return template.__array_namespace__().asarray(
            np.asarray(values, dtype_name(template)), dtype=template.dtype
        )
    raise ValueError(f"cannot make a {type(template).__name__} from a NumPy array")


def restore(array, values):
    """Write host values back into an array that was changed, where it can be written to."""
    if library(array) == "torch":
        array.detach().copy_(like(values, array).detach())
    elif library(array) == "cupy" or (isinstance(array, np.ndarray) and array.flags.writeable):
        array[...] = like(values, array)


def same(a, b):
    """Whether two host arrays hold the same bits' worth of values, NaN equal to NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=_nans(a))


def _nans(array):
    return np.issubdtype(array.dtype, np.inexact)

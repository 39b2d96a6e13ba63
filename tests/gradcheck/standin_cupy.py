"""What stands in for CuPy where no GPU is: arrays that refuse NumPy as CuPy's do.

A CuPy array does not turn into a NumPy array by itself (`__array__` raises; `.get()` does it), does
not take part in operations with NumPy arrays, and answers NumPy's functions through NumPy's
protocols. The values are hidden in a NumPy array here, so this tells of conversions, not of CUDA.
"""

import types

import numpy as np

NO = "Implicit conversion to a NumPy array is not allowed. Please use `.get()`"

# The methods of ufuncs that CuPy 14 has, and of which ufuncs (its reference, "Methods").
METHODS = {"reduce": ("add", "multiply"), "at": ("add", "subtract", "maximum", "minimum")}


def wrapped(value):
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    return type(value)(map(wrapped, value)) if isinstance(value, list | tuple) else value


def opened(value):
    """Arguments for NumPy: only CuPy arrays and scalars, as CuPy has it."""
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, ndarray):
        return value._held
    if isinstance(value, dict):
        return {key: opened(child) for key, child in value.items()}
    return type(value)(map(opened, value)) if isinstance(value, list | tuple) else value


class Device:
    """The only GPU."""

    id = 0

    def __enter__(self):
        ndarray.devices_entered += 1
        return self

    def __exit__(self, *error):
        pass


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    devices_entered = 0
    device = Device()

    def __init__(self, held):
        self._held = np.asarray(held)  # views of it are views here too, as CuPy's are

    shape = property(lambda self: self._held.shape)
    dtype = property(lambda self: self._held.dtype)
    ndim = property(lambda self: self._held.ndim)
    size = property(lambda self: self._held.size)
    strides = property(lambda self: self._held.strides)
    flags = property(lambda self: self._held.flags)
    data = property(lambda self: types.SimpleNamespace(ptr=self._held.ctypes.data))
    T = property(lambda self: wrapped(self._held.T))
    __cuda_array_interface__ = property(lambda self: {"version": 3, "shape": self._held.shape})

    def get(self):
        return self._held.copy()

    def __array__(self, *args, **kwargs):
        raise TypeError(NO)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" and ufunc.__name__ not in METHODS.get(method, ()):
            raise NotImplementedError(f"`cupy_{ufunc.__name__}.{method}` is not supported yet")
        return wrapped(getattr(ufunc, method)(*map(opened, inputs), **opened(kwargs)))

    def __array_function__(self, function, types, args, kwargs):
        if function in (np.asarray, np.array):  # with like=: these alone take NumPy's arrays
            return cupy.asarray(*args, **kwargs)
        return wrapped(function(*map(opened, args), **opened(kwargs)))

    def __getitem__(self, index):
        return wrapped(self._held[opened(index)])

    def __setitem__(self, index, value):
        self._held[opened(index)] = opened(value)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._held, name)
        return lambda *args, **kwargs: wrapped(method(*map(opened, args), **opened(kwargs)))

    def __len__(self):
        return len(self._held)

    def __float__(self):
        return float(self._held)

    def __int__(self):
        return int(self._held)

    def __bool__(self):
        return bool(self._held)

    def __repr__(self):
        return repr(self._held)


ndarray.__module__ = "cupy"  # real ones say the same


class Module(types.ModuleType):
    """NumPy's functions, on these arrays."""

    ndarray, float32, float64 = ndarray, np.float32, np.float64

    def asarray(self, values, dtype=None):
        return ndarray(np.array(getattr(values, "_held", values), dtype=dtype))

    array = asarray

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        function = getattr(np, name)
        return lambda *args, **kwargs: wrapped(function(*map(opened, args), **opened(kwargs)))


cupy = Module("cupy")


def cupy_or_standin():
    """CuPy where it can run, the stand-in elsewhere."""
    try:
        import cupy as real

        real.cuda.runtime.getDeviceCount()
        real.zeros(1).get()
    except Exception:  # not installed, no driver, no device
        return cupy
    return real

"""How a kernel is held to its op: the truth in float64, and a vendor's error to measure by."""

import contextlib

import numpy as np
import torch

TORCH_TYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class Place:
    """The CPU (Triton's interpreter, the emulator) or a GPU, for a test that knows neither."""

    def __init__(self, name):
        self.name, self.device = name, "cuda" if name == "gpu" else "cpu"

    def size(self, small, real):
        """A size: the real one on a GPU, a small one where a CPU plays the GPU."""
        return real if self.name == "gpu" else small

    def array(self, array):
        """What an op gets here: a CuPy array on a GPU, the NumPy array itself on the CPU."""
        if self.name == "gpu":
            import cupy

            return cupy.asarray(array)
        return array

    def tensor(self, array, dtype=None):
        """A torch tensor here, of a dtype given by name, with strides as the NumPy array's."""
        tensor = torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
        return tensor.to(self.device, TORCH_TYPES[dtype] if dtype else None)

    def numpy(self, array):
        """An array or tensor of this place as a NumPy array; half precision becomes float32."""
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu()
            halves = (torch.float16, torch.bfloat16)
            return (array.float() if array.dtype in halves else array).numpy()
        return array.get() if hasattr(array, "get") else np.asarray(array)

    @contextlib.contextmanager
    def exact_vendor(self):
        """float32 products of torch without tf32, so that the vendor's error is float32's."""
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def quantised(rng, shape, dtype="float32", scale=1.0):
    """Normal values that `dtype` holds exactly, as (NumPy float32 or float64, the same in float64).

    The second is what the truth is computed from: rounding the inputs is nobody's error.
    """
    values = torch.from_numpy(scale * rng.standard_normal(shape)).to(TORCH_TYPES[dtype])
    exact = values.double().numpy()
    return (exact.copy() if dtype == "float64" else exact.astype(np.float32)), exact


def error(actual, truth):
    """||actual - truth|| / ||truth|| in float64; inf where anything is not finite."""
    actual, truth = np.asarray(actual, np.float64), np.asarray(truth, np.float64)
    assert actual.shape == truth.shape, f"shape {actual.shape}, expected {truth.shape}"
    if not np.all(np.isfinite(actual)):
        return np.inf
    return float(np.linalg.norm(actual - truth) / max(np.linalg.norm(truth), 1e-300))


def epsilon(dtype):
    """The distance from 1 to the next number of a dtype given by name."""
    return torch.finfo(TORCH_TYPES[dtype]).eps


def as_good_as(ours, vendor, truth, dtype, what=""):
    """Our error is at most twice the vendor's on the same inputs, or a rounding of the result.

    The floor: a result rounded to `dtype` is off by up to half its epsilon even when all before
    was exact, and the vendor's may happen to be off by less.

    Parameters
    ----------
    ours, vendor : array of any floating dtype, NumPy
    truth : float64 array, from the inputs as quantised
    dtype : str, that of the result
    """
    a, b = error(ours, truth), error(vendor, truth)
    floor = epsilon(dtype)
    assert a <= 2 * b + floor, (
        f"{what}: error {a:.3g}, the vendor's {b:.3g}, {dtype} eps {floor:.3g}"
    )

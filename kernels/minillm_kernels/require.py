"""What a backend needs, and one clear line when it is not there."""

import importlib
import os

from minillm.errors import UserError

__all__ = ["INSTALL", "compute_capability", "emulated", "interpreted", "library", "require_gpu"]

INSTALL = 'pip install "minillm-numpy[gpu]"'
# backend -> how its kernels run on a CPU, and what that needs
WITHOUT_A_GPU = {
    "cupy": "Without a GPU: MINILLM_EMULATE=1 runs its kernels on the CPU, slowly (needs g++)",
    "triton": "Without a GPU: TRITON_INTERPRET=1 runs its kernels on the CPU, slowly "
    "(needs torch and triton)",
}
LIBRARIES = {"cupy": "CuPy", "torch": "PyTorch", "triton": "Triton"}


def emulated():
    """Whether the CUDA C kernels run on the CPU's emulator, which MINILLM_EMULATE=1 asks for."""
    return os.environ.get("MINILLM_EMULATE", "0") not in ("", "0")


def interpreted():
    """Whether Triton interprets its kernels on the CPU, which TRITON_INTERPRET=1 asks for.

    Triton decides when a kernel's module is imported: set the variable before.
    """
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def library(name, backend):
    """Import a library that a backend needs.

    Raises
    ------
    UserError
        when it is not installed or does not load, saying what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        why = "is not installed" if getattr(error, "name", None) == name else f"fails: {error}"
        raise UserError(
            f"the {backend} backend needs {LIBRARIES[name]}, which {why}. On Linux with an NVIDIA "
            f"GPU: {INSTALL}. {WITHOUT_A_GPU[backend]}"
        ) from None


def require_gpu(backend, *, minimum):
    """Make sure that there is an NVIDIA GPU, and one of at least this compute capability.

    Parameters
    ----------
    backend : str, for the message
    minimum : (int, int), the least compute capability

    Raises
    ------
    UserError
        when there is no usable GPU, or one that is too old.
    """
    cupy = library("cupy", backend)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise UserError(
            f"the {backend} backend needs an NVIDIA GPU, and none can be used here "
            f"({_reason(error)}). {WITHOUT_A_GPU[backend]}"
        ) from None
    if count == 0:
        raise UserError(
            f"the {backend} backend needs an NVIDIA GPU, and there is none. "
            f"{WITHOUT_A_GPU[backend]}"
        )
    came = compute_capability(cupy)
    if came < minimum:
        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
        raise UserError(
            f"the {backend} backend needs a GPU of compute capability {_dotted(minimum)} or more, "
            f"and this {name} has {_dotted(came)}. {WITHOUT_A_GPU[backend]}"
        )


def compute_capability(cupy):
    """(major, minor) of CuPy's current device."""
    digits = cupy.cuda.Device().compute_capability  # "75", "90", "120"
    return int(digits[:-1]), int(digits[-1])


def _dotted(capability):
    return ".".join(map(str, capability))


def _reason(error):
    """CUDA's own words, without the name of its error code."""
    return str(error).split(": ", 1)[-1]

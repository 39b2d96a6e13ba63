"""The backend "triton": importing this module registers its pairs.

On a GPU the ops' arrays are CuPy's. With TRITON_INTERPRET=1 they are NumPy's, and Triton interprets
the same kernels on the CPU: slow, but line by line.
"""

import importlib

from minillm.errors import UserError
from minillm.ops._state import Registry
from minillm.optim import AdamW
from minillm_kernels.device import GPU, Simulated, UpdateOnGPU
from minillm_kernels.require import INSTALL, interpreted, library, require_gpu
from minillm_kernels.sharing import share_memory


def _optimizer(rule):
    """The update rule in few launches where there is a kernel for it, else array by array."""
    from minillm_kernels.triton.adamw import FusedAdamW

    if type(rule) is AdamW:
        return FusedAdamW(rule)
    return rule if interpreted() else UpdateOnGPU(rule)


torch, _ = library("torch", "triton"), library("triton", "triton")
if interpreted():
    _device = Simulated(_optimizer)
else:
    require_gpu("triton", minimum=(7, 5))
    if not torch.cuda.is_available():
        raise UserError(
            "the triton backend needs PyTorch with CUDA, "
            f"and this is {torch.__version__}: {INSTALL}"
        )
    _cupy = library("cupy", "triton")
    share_memory(_cupy, torch)
    _device = GPU(_cupy, _optimizer)

importlib.import_module("minillm_kernels.triton")
Registry.devices["triton"] = _device

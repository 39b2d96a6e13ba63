"""The backend "cupy": importing this module registers its pairs.

On a GPU the ops' arrays are CuPy's: an op without a kernel here runs its NumPy reference through
CuPy. With MINILLM_EMULATE=1 arrays are NumPy's, and the emulator runs the CUDA C files on the CPU.
"""

import importlib

from minillm.ops._state import Registry
from minillm_kernels.device import GPU, Simulated, UpdateOnGPU
from minillm_kernels.require import emulated, library, require_gpu

if emulated():
    _device = Simulated()
else:
    require_gpu("cupy", minimum=(7, 5))
    _device = GPU(library("cupy", "cupy"), UpdateOnGPU)

importlib.import_module("minillm_kernels.cuda.pairs")
Registry.devices["cupy"] = _device

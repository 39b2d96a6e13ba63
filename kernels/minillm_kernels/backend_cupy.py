"""The backend "cupy": importing this module registers its pairs.

On a GPU the ops' arrays are CuPy's: an op without a kernel here runs its NumPy reference through
CuPy. With MINILLM_EMULATE=1 arrays are NumPy's, and the emulator runs the CUDA C files on the CPU.
"""

from minillm_kernels.require import emulated, library, require_gpu

if not emulated():
    library("cupy", "cupy")
    require_gpu(
        "cupy",
        minimum=(7, 5),
        instead="MINILLM_EMULATE=1 in the environment runs the kernels on the CPU, slowly",
    )

from minillm_kernels.cuda import pairs  # noqa: E402,F401  (its ops register)

"""The backend "triton": importing this module registers its pairs.

On a GPU the ops' arrays are CuPy's. With TRITON_INTERPRET=1 they are NumPy's, and Triton interprets
the same kernels on the CPU: slow, but line by line.
"""

from minillm_kernels.require import interpreted, library, require_gpu

for _name in ("torch", "triton"):
    library(_name, "triton")
if not interpreted():
    library("cupy", "triton")
    require_gpu(
        "triton",
        minimum=(7, 5),
        instead="TRITON_INTERPRET=1 in the environment runs the kernels on the CPU, slowly",
    )

from minillm_kernels import triton  # noqa: E402,F401  (its ops register)

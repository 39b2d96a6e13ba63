"""CUDA C on the CPU: the unchanged .cu file compiled by g++, every CUDA thread a fiber.

    from minillm_kernels.emulator import RawModule, checking

    module = RawModule(path="03_shared_tile.cu")
    kernel = module.get_function("matmul")
    kernel((2, 2), (16, 16), (a, b, c, 32, 32, 32), shared_mem=0)    # as a cupy.RawKernel

    with checking() as report:      # the same launch, every access watched
        kernel(...)
    print(report)

source.py     what is done to a .cu file's text before g++ sees it
build.py      .cu -> shared library, kept in the user's cache
module.py     RawModule and its kernels, shaped like CuPy's
arguments.py  what may be passed to a kernel, checked against its C++ types
launch.py     one launch, and its errors told by the .cu's lines
guarded.py    an unchecked launch's arrays, with margins that take an overrun
checked.py    one checked launch: copies of the arrays, and addresses told as elements and lines
report.py     what a checked launch found
src/          the scheduler, fibers, launches and the checker, in C++
include/      what a kernel is compiled against
"""

from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.emulator.launch import emulator_settings
from minillm_kernels.emulator.module import RawModule
from minillm_kernels.emulator.report import Finding, LineCount, Report, checking, launch_report

__all__ = [
    "EmulatorError",
    "Finding",
    "LineCount",
    "RawModule",
    "Report",
    "checking",
    "emulator_settings",
    "launch_report",
]

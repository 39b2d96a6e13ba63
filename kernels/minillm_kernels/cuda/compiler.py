"""Compile a rung for a GPU that need not be there, and read what the compiler made of it.

`ptxas -v` says how many registers a kernel takes and what it spills; the disassembly (SASS) says
whether the instructions that a rung is about, tensor cores or 16-byte loads, are in the code. Both
are explained in NVIDIA's "CUDA Binary Utilities". Nothing here needs a driver.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minillm.errors import UserError

__all__ = ["Compiled", "Resources", "compile_cubin", "disassemble", "find_nvcc"]

WHEELS = (
    "pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl nvidia-nvvm"
)
TOOLKIT = "/usr/local/cuda/bin"  # where NVIDIA's installer puts it, often not on PATH
# What ptxas -v prints of a kernel, over three lines.
REPORT = re.compile(
    r"Compiling entry function '(?P<name>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    """What one kernel takes of a multiprocessor, as ptxas says; all but registers in bytes."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int  # static: what a launch asks for comes on top

    @property
    def spills(self):
        """Bytes written to or read from local memory for want of registers."""
        return self.spill_stores + self.spill_loads


@dataclass(frozen=True)
class Compiled:
    """A file compiled for one architecture."""

    arch: str
    cubin: bytes
    kernels: dict[str, Resources]
    warnings: tuple[str, ...]

    def sass(self):
        """The machine code of all its kernels as text, made on demand."""
        return disassemble(self.cubin)


@functools.cache
def find_nvcc():
    """The path of nvcc: from the wheels of pip, else CUDA_HOME's, else the one on PATH, else
    where NVIDIA's installer puts it.

    Raises
    ------
    UserError
        where there is none, saying what to install.
    """
    incomplete = None
    for root in _wheel_roots():
        nvcc = root / "bin" / "nvcc"
        if nvcc.is_file():
            # <nv/target>, which the fp16 and bf16 headers include, is in a wheel of its own; other
            # libraries bring the compiler without it.
            if (root / "include" / "cccl" / "nv" / "target").is_file():
                return str(nvcc)
            incomplete = incomplete or nvcc
    homes = [os.environ.get(variable, "") for variable in ("CUDA_HOME", "CUDA_PATH")]
    for home in filter(None, homes):
        nvcc = Path(home) / "bin" / "nvcc"
        if nvcc.is_file():
            return str(nvcc)
    found = shutil.which("nvcc") or shutil.which("nvcc", path=TOOLKIT)
    if found:
        return found
    if incomplete:
        raise UserError(f"{incomplete} lacks the header <nv/target>: pip install nvidia-cuda-cccl")
    raise UserError(f"compiling CUDA C needs nvcc, and there is none here: {WHEELS}")


def compile_cubin(path, arch, macros=None):
    """Compile one .cu file for one architecture, with no GPU.

    Parameters
    ----------
    path : of the .cu file
    arch : "sm_75", "sm_80", "sm_90" or "sm_90a"
    macros : {name: value} to define

    Returns
    -------
    compiled : Compiled

    Raises
    ------
    UserError
        with nvcc's message where it refuses the file.
    """
    compute = arch.replace("sm_", "compute_")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "kernels.cubin")
        # -gencode, not -arch=sm_90a: that one also runs a pass for sm_90, which refuses wgmma.
        command = [find_nvcc(), "-cubin", f"-gencode=arch={compute},code={arch}", "-std=c++17"]
        command += ["-Xptxas", "-v", "-o", str(out)]
        command += [f"-D{name}={value}" for name, value in (macros or {}).items()]
        done = subprocess.run([*command, str(path)], capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"nvcc refuses {path} for {arch}:\n{done.stderr or done.stdout}")
        text = done.stdout + done.stderr
        return Compiled(arch, out.read_bytes(), _resources(text), _warnings(text))


def disassemble(cubin):
    """The SASS of a cubin as text, by the nvdisasm that comes with nvcc or in Triton's wheel.

    Raises
    ------
    UserError
        where there is no nvdisasm.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_find_nvdisasm(), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@functools.cache
def _find_nvdisasm():
    found = [root / "bin" / "nvdisasm" for root in _wheel_roots()]
    spec = importlib.util.find_spec("triton")  # finds the folder; imports nothing
    if spec and spec.origin:
        found.append(Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "nvdisasm")
    for tool in found:
        if tool.is_file():
            return str(tool)
    on_path = shutil.which("nvdisasm")
    if on_path:
        return on_path
    raise UserError(
        "reading machine code needs nvdisasm, which is in triton's wheel: pip install triton"
    )


def _wheel_roots():
    """<site-packages>/nvidia/cu13 and its like, the newest first."""
    spec = importlib.util.find_spec("nvidia")  # a namespace package of all of NVIDIA's wheels
    places = list(spec.submodule_search_locations or ()) if spec else []
    return sorted((root for p in places for root in Path(p).glob("cu[0-9]*")), reverse=True)


def _resources(text):
    found = {}
    for match in REPORT.finditer(text):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        counts = (match[key] for key in ("registers", "stack", "stores", "loads"))
        found[match["name"]] = Resources(*map(int, counts), int(shared[1]) if shared else 0)
    return found


def _warnings(text):
    return tuple(line.strip() for line in text.splitlines() if re.search(r"\bwarning\s*[#:]", line))

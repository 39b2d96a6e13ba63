"""The compiler's report is read right, and what it lacks is said in one line."""

import re

import pytest

from minillm.errors import UserError
from minillm_kernels.cuda import compiler
from minillm_kernels.cuda.compiler import compile_cubin, disassemble, find_nvcc

SMALL = """
extern "C" __global__ void shift(float* x)
{
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void wide(float4* x) { x[threadIdx.x + 1] = x[threadIdx.x]; }
"""
# 64 sums at once, and a block so large that a thread may have only 32 registers.
HUNGRY = """
extern "C" __global__ void __launch_bounds__(1024, 2) hungry(float* x, int n)
{
    float sums[64] = {};
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < 64; ++j) sums[j] = sums[j] * x[i * 1024 + j] + x[i + j * 512];
    for (int j = 0; j < 64; ++j) x[threadIdx.x * 64 + j] = sums[j];
}
"""


@pytest.fixture
def source(tmp_path):
    def write(text):
        path = tmp_path / "kernel.cu"
        path.write_text(text)
        return path

    return write


def test_resources_and_machine_code(source):
    compiled = compile_cubin(source(SMALL), "sm_80")
    shift, wide = compiled.kernels["shift"], compiled.kernels["wide"]
    assert shift.shared == 64 * 4
    assert wide.shared == 0
    assert shift.spills == wide.spills == shift.stack == 0
    assert 0 < shift.registers < 64
    code = compiled.sass()
    assert code == disassemble(compiled.cubin)
    shift_code, wide_code = code.split("\n.text.shift:")[1], code.split("\n.text.wide:")[1]
    assert re.search(r"LDG\.E\.128", wide_code)
    assert "BAR.SYNC" in shift_code


def test_spills_are_seen(source):
    hungry = compile_cubin(source(HUNGRY), "sm_90").kernels["hungry"]
    assert hungry.registers <= 32
    assert hungry.spill_stores > 0
    assert hungry.spill_loads > 0
    assert hungry.spills == hungry.spill_stores + hungry.spill_loads


def test_macros_are_defined(source):
    path = source(SMALL.replace("float tile[64]", "REAL tile[N]"))
    few = compile_cubin(path, "sm_75", {"REAL": "float", "N": 64})
    many = compile_cubin(path, "sm_75", {"REAL": "double", "N": 96})
    assert few.kernels["shift"].shared == 64 * 4
    assert many.kernels["shift"].shared == 96 * 8


def test_only_sm_90a_has_wgmma(source):
    path = source('extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;"); }')
    assert "f" in compile_cubin(path, "sm_90a").kernels
    with pytest.raises(UserError, match="wgmma"):
        compile_cubin(path, "sm_90")


def test_warnings_are_kept(source):
    path = source('extern "C" __global__ void f(int* x) { int unused; x[0] = 1; }')
    (warning,) = compile_cubin(path, "sm_75").warnings
    assert "unused" in warning


def test_a_mistake_is_told_by_its_line(source):
    path = source('extern "C" __global__ void f(float* x)\n{\n    x[0] = missing;\n}\n')
    with pytest.raises(UserError, match=r"(?s)kernel\.cu for sm_75.*kernel\.cu\(3\).*missing"):
        compile_cubin(path, "sm_75")


@pytest.fixture
def nowhere(monkeypatch):
    """No toolkit in any place but those that a test gives."""
    monkeypatch.setattr(compiler, "_wheel_roots", list)
    monkeypatch.setattr(compiler, "TOOLKIT", "/nowhere")
    monkeypatch.setenv("PATH", "")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def install(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    return root


def test_without_nvcc_says_what_to_install(nowhere):
    with pytest.raises(UserError, match=r"pip install nvidia-cuda-nvcc .*nvidia-cuda-cccl"):
        find_nvcc.__wrapped__()


def test_a_wheel_without_its_headers_says_which(nowhere, tmp_path):
    root = install(tmp_path, "bin/nvcc")
    nowhere.setattr(compiler, "_wheel_roots", lambda: [root])
    with pytest.raises(UserError, match=r"nv/target.*pip install nvidia-cuda-cccl"):
        find_nvcc.__wrapped__()


def test_a_wheel_without_its_headers_hides_no_toolkit(nowhere, tmp_path):
    wheel = install(tmp_path / "wheel", "bin/nvcc")
    nowhere.setattr(compiler, "_wheel_roots", lambda: [wheel])
    nowhere.setattr(compiler, "TOOLKIT", str(install(tmp_path / "toolkit", "nvcc")))
    assert find_nvcc.__wrapped__() == str(tmp_path / "toolkit" / "nvcc")
    nowhere.setenv("PATH", str(install(tmp_path / "path", "nvcc")))
    assert find_nvcc.__wrapped__() == str(tmp_path / "path" / "nvcc")


def test_wheels_come_before_cuda_home_and_that_before_path(nowhere, tmp_path):
    wheel = install(tmp_path / "wheel", "bin/nvcc", "include/cccl/nv/target")
    home = install(tmp_path / "home", "bin/nvcc")
    path = install(tmp_path / "path", "nvcc")
    nowhere.setenv("PATH", str(path))
    assert find_nvcc.__wrapped__() == str(path / "nvcc")
    nowhere.setenv("CUDA_HOME", str(home))
    assert find_nvcc.__wrapped__() == str(home / "bin" / "nvcc")
    nowhere.setattr(compiler, "_wheel_roots", lambda: [wheel])
    assert find_nvcc.__wrapped__() == str(wheel / "bin" / "nvcc")


def test_without_nvdisasm_says_what_to_install(nowhere):
    nowhere.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install triton"):
        compiler._find_nvdisasm.__wrapped__()

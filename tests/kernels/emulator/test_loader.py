"""From a .cu file to a library: what is compiled, kept, found again, and refused with its line."""

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minillm_kernels.emulator import EmulatorError, RawModule, build, checking
from minillm_kernels.emulator.source import find_kernels, pad_shared

FILL = """
#ifndef VALUE
#define VALUE 1
#endif
extern "C" __global__ void __launch_bounds__(64, 2) fill(int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = VALUE;
}
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, but for the runtime, which takes seconds to compile."""
    runtime = Path(build.build_runtime())
    for suffix in (".so", ".json"):
        (tmp_path / (runtime.stem + suffix)).write_bytes(runtime.with_suffix(suffix).read_bytes())
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    return tmp_path


def filled(module, n=100):
    x = np.zeros(n, np.int32)
    module.get_function("fill")((-(-n // 64),), (64,), (x, np.int32(n)))
    return x


def libraries(folder):
    return {path for path in folder.glob("*.so") if not path.name.startswith("runtime")}


def test_options_and_sources_have_libraries_of_their_own(cache):
    assert (filled(RawModule(code=FILL)) == 1).all()
    assert (filled(RawModule(code=FILL, options=("-DVALUE=7", "--use_fast_math"))) == 7).all()
    assert len(libraries(cache)) == 2
    assert (filled(RawModule(code=FILL)) == 1).all()
    assert len(libraries(cache)) == 2
    assert {path.suffix for path in cache.iterdir()} == {".so", ".json"}  # nothing half made


def test_an_included_file_counts(cache, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "value.h").write_text("#define VALUE 3\n")
    (folder / "fill.cu").write_text('#include "value.h"\n' + FILL)
    assert (filled(RawModule(path=folder / "fill.cu")) == 3).all()
    (folder / "value.h").write_text("#define VALUE 4\n")
    assert (filled(RawModule(path=str(folder / "fill.cu"))) == 4).all()


@pytest.mark.parametrize("damage", ["library", "description", "half"])
def test_a_damaged_entry_is_made_anew(cache, damage):
    built = build.build_kernels(FILL, "fill.cu")
    library, description = Path(built.path), Path(built.path).with_suffix(".json")
    content = library.read_bytes()
    if damage == "library":
        library.write_bytes(content[:1000] + b"\0" + content[1001:])
    elif damage == "description":
        description.write_text('{"kernels": ["fill"]')
    else:
        description.unlink()
        library.write_bytes(content[: len(content) // 2])
    again = build.build_kernels(FILL, "fill.cu")
    assert again == built
    assert json.loads(description.read_text())["kernels"] == ["fill"]
    command = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).emu_kernels"
    subprocess.run([sys.executable, "-c", command, built.path], check=True)


def test_many_at_once_make_the_same_library(cache):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: build.build_kernels(FILL, "fill.cu"), range(4)))
    assert all(b == built[0] for b in built)
    assert len(list(cache.iterdir())) == 4  # the runtime, the library, and their descriptions


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = build.cache_folder.__wrapped__()
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)


def test_without_a_compiler_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.find_compiler.cache_clear()
    try:
        with pytest.raises(
            EmulatorError, match=r"no-such-compiler, which is not installed: apt-get"
        ):
            build.find_compiler()
    finally:
        build.find_compiler.cache_clear()


def error_of(code, **more):
    with pytest.raises(EmulatorError) as caught:
        RawModule(code=code, **more).compile()
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_error_in_the_code_is_told_by_its_line():
    error = error_of('extern "C" __global__ void k(float* x) {\n    x[0] = y;\n    z();\n}\n')
    assert (error.file, error.line, error.kind) == ("kernel.cu", 2, "compile")
    assert str(error) == "kernel.cu:2: 'y' was not declared in this scope (and 1 more)"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            'asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" :: "r"(0), "l"(x));',
            "inline PTX",
        ),
        ('__asm__("" ::: "memory");', "inline PTX"),
        ("if (x[0] == 0) throw 3;", "exception handling disabled"),
        ("#include <cuda/barrier>", "out of the emulator's reach"),
        ("#include <cuda_pipeline.h>", "cp.async"),
    ],
)
def test_what_is_out_of_reach_says_so_with_its_line(line, says):
    inside, outside = (line, "") if "#" not in line else ("", line)
    error = error_of(f'\n{outside}\nextern "C" __global__ void k(float* x) {{\n{inside}\n}}\n')
    assert says in str(error)
    if inside:
        assert error.line == 4


def test_an_unknown_option_is_refused():
    assert "'--frobnicate'" in str(error_of(FILL, options=("--frobnicate",)))


def test_code_or_path():
    for arguments in ({}, {"code": FILL, "path": "x.cu"}):
        with pytest.raises(EmulatorError, match="either code or path"):
            RawModule(**arguments)
    with pytest.raises(EmulatorError, match=r"no/such\.cu cannot be read"):
        RawModule(path="no/such.cu")


def test_a_kernel_that_is_not_there():
    code = FILL + "template <class T> __global__ void copy(const T* x, T* y) { *y = *x; }\n"
    with pytest.raises(EmulatorError) as caught:
        RawModule(code=code).get_function("fil")
    assert str(caught.value) == "kernel.cu has no kernel 'fil'; it has: fill, copy<...>"
    with pytest.raises(EmulatorError, match="name_expressions, such as 'copy<float>'"):
        RawModule(code=code).get_function("copy")


def test_kernels_are_found_however_they_are_written():
    found = find_kernels(
        """
# 1 "a.cu"
extern "C" __emu_global__ void plain(const float *__restrict__ a, int n = 3) {}
extern "C" __emu_global__ void
# 7 "a.cu"
__emu_launch_bounds__((16 * 16), 2) wrapped(float x[4], void (*f)(int, int)) {}
__attribute__((noinline)) __emu_global__ static void attributed() {}
template <int N, class T>
__emu_global__ void shaped(T (&x)[N]);
template <int N>
static __emu_global__ void __emu_launch_bounds__(N) bounded(int) {}
void not_a_kernel(int x) {}
"""
    )
    assert found.plain == ["plain", "wrapped", "attributed"]
    assert found.templates == ["shaped", "bounded"]
    assert found.bounds == {"wrapped": "(16 * 16), 2", "bounded": "N"}
    assert found.parameters["plain"] == ["a", "n"]


def test_shared_variables_are_padded_and_no_others():
    assembly = '\t.bss\nx:\n\t.zero\t4\n\t.section\t.tbss,"awT",@nobits\ny:\n\t.zero\t8\n'
    assert pad_shared(assembly) == assembly + "\t.zero\t256\n"


def test_shared_memory_in_every_spelling():
    code = """
    struct Pair { float a, b; };
    __shared__ int outside[4];
    extern __shared__ __align__(16) char dynamic[];
    extern "C" __global__ void k(int* y) {
        __shared__ alignas(32) float a[3][5];
        static __shared__ float b[7];
        __shared__ alignas(Pair) unsigned char c[16];
        volatile __shared__ double d;
        __shared__ union { int i; float f; } e;
        extern __shared__ char dynamic[];
        a[0][0] = b[0] = 1; c[0] = 2; d = 3; e.i = 4; outside[3] = 5; dynamic[8] = 6;
        y[0] = a[0][0] + b[0] + c[0] + d + e.i + outside[3] + dynamic[8];
        y[1] = (int)((size_t)a % 32 + (size_t)dynamic % 16);
    }
    """
    kernel, y = RawModule(code=code).get_function("k"), np.full(2, -1, np.int32)
    kernel((1,), (1,), (y,), shared_mem=9)
    assert list(y) == [22, 0]


def test_bounds_of_a_launch_are_the_kernels():
    kernel = RawModule(code=FILL).get_function("fill")
    assert (kernel.most_threads, kernel.shared_size_bytes) == (64, 0)
    with pytest.raises(EmulatorError, match="__launch_bounds__ promises at most 64 threads"):
        kernel((1,), (65,), (np.zeros(1, np.int32), 1))


def test_a_module_for_checked_launches_compiles_the_fast_code_only_when_asked():
    code = 'extern "C" __global__ void k(float* y) { y[threadIdx.x] = threadIdx.x; }'
    module, y = RawModule(code=code, checked=True), np.zeros(4, np.float32)
    built = []
    library = module.library
    module.library = lambda checked, fibers: built.append(checked) or library(checked, fibers)
    kernel = module.get_function("k")
    with checking() as report:
        kernel((1,), (4,), (y,))
    assert set(built) == {True}
    assert not report.findings
    assert y.tolist() == [0, 1, 2, 3]
    y[:] = 9
    kernel((1,), (4,), (y,))
    assert set(built) == {True, False}
    assert y.tolist() == [0, 1, 2, 3]

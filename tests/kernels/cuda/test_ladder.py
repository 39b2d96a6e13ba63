"""The registry of rungs, their headers, and how a rung comes to run or is refused."""

import re
import sys
import types

import numpy as np
import pytest

from minillm.errors import UserError
from minillm_kernels.cuda import ladder
from minillm_kernels.cuda.ladder import (
    LADDERS,
    Rung,
    check_array,
    check_capability,
    check_grid,
    load,
)
from tests.kernels.cuda.rows import FakeArray

RUNGS = {str(rung): rung for rung in ladder.every_rung()}
MATMUL = LADDERS["matmul"]
KERNEL = re.compile(
    r'extern "C" __global__ void\s*(?:__(?:launch_bounds|cluster_dims)__\([^)]*\)\s*)*(\w+)\(',
    re.DOTALL,
)
# What NVRTC has, by which CuPy compiles; <cuda.h> only where nvcc does (sm_90a).
INCLUDES = {"cuda_fp16.h", "cuda_bf16.h", "mma.h", "cuda.h"}


every_rung = pytest.mark.parametrize("rung", RUNGS.values(), ids=RUNGS.keys())


@every_rung
def test_header(rung):
    """The header says of a rung what the registry says, in the lines that all headers have."""
    assert rung.header[0].startswith(f"{rung.path.name} ")
    assert len(rung.summary) > 10
    emulator = ("emulator",) if rung.emulated else ()
    assert sorted(rung.runs_on) == sorted((*rung.arches, *emulator))
    what, figure = rung.share
    assert what.endswith(" an H100")
    assert re.fullmatch(r"not yet measured|\d+(\.\d+)? %", figure)
    for start in ("Idea:", "Arithmetic:", "Source of"):
        assert any(line.startswith(start) for line in rung.header), f"no line {start}"
    assert any("Bytes:" in line for line in rung.header), "no line Bytes:"


@every_rung
def test_source(rung):
    """A rung is one file that NVRTC understands and that has the kernels it is said to have."""
    text = rung.path.read_text()
    assert sorted(KERNEL.findall(text)) == sorted(rung.kernels)
    includes = set(re.findall(r"#include\s*[<\"]([^>\"]+)", text))
    assert includes <= INCLUDES
    if not all(arch.endswith("a") for arch in rung.arches):
        assert "cuda.h" not in includes
    code = re.sub(r"//[^\n]*", "", text)
    for word in set(re.findall(r"\b(?:INFINITY|NAN|printf|assert|u?int\d+_t)\b", code)):
        assert f"#define {word} " in code, f"NVRTC has no {word}"


def test_ladders_are_numbered_from_one():
    for name, rungs in LADDERS.items():
        assert [rung.number for rung in rungs] == list(range(1, len(rungs) + 1))
        assert {rung.ladder for rung in rungs} == {name}
        files = sorted(path.stem for path in rungs[0].path.parent.glob("*.cu"))
        assert files == [rung.name for rung in rungs]
    assert len(LADDERS) == len(list(LADDERS)) == 5
    assert {rung.ladder for rung in RUNGS.values()} == {*LADDERS, *ladder.SINGLE}


def test_find():
    assert LADDERS.find("matmul", 3) is LADDERS.find("matmul", MATMUL[2].name) is MATMUL[2]
    with pytest.raises(UserError, match="no ladder 'matmull'; there are: matmul, attention"):
        LADDERS.find("matmull", 1)
    with pytest.raises(UserError, match="softmax has no rung 9; it has: 01_thread_a_row, 02_"):
        LADDERS.find("softmax", 9)


def test_a_header_without_its_line_is_named(tmp_path):
    path = tmp_path / "01_bare.cu"
    path.write_text("// 01_bare.cu   nothing\n//\n// Share of it\nint x;\n")
    with pytest.raises(LookupError, match=r"01_bare\.cu: the header has no line .*'Share of '"):
        Rung(path, ()).share  # noqa: B018
    assert Rung(path, ()).summary == "nothing"


def test_emulated_rung_runs_on_numpy(tmp_path):
    path = tmp_path / "01_fill.cu"
    path.write_text('extern "C" __global__ void fill(REAL* x) { x[threadIdx.x] = VALUE; }')
    rung = Rung(
        path, ("fill",), dtypes={"float32": {"REAL": "float"}, "float64": {"REAL": "double"}}
    )
    for dtype in ("float32", "float64"):
        x = np.zeros(5, dtype)
        loaded = load(rung, dtype=dtype, macros={"VALUE": 7}, carrier=x)
        loaded.kernel("fill")((1,), (5,), (x,))
        assert (x == 7).all()
        assert load(rung, dtype=dtype, macros={"VALUE": "7"}, carrier=x) is loaded
        assert load(rung, dtype=dtype, macros={"VALUE": 8}, carrier=x) is not loaded


def test_what_the_emulator_has_not_is_refused():
    rung = next(rung for rung in MATMUL if not rung.emulated)
    with pytest.raises(UserError, match=f"{rung} needs a GPU \\(sm_80 or sm_90\\)"):
        load(rung, carrier=np.zeros(1, np.float32))


def test_load_refuses_an_unknown_dtype_and_carrier():
    rung = LADDERS["softmax"][0]
    with pytest.raises(ValueError, match=r"01_thread_a_row has no kernels for float16; .*float32"):
        load(rung, dtype="float16", carrier=np.zeros(1))
    with pytest.raises(ValueError, match="carrier must be a CuPy or NumPy array, got list"):
        load(rung, carrier=[1.0])


MMA, WGMMA = LADDERS.find("matmul", 9), LADDERS.find("matmul", 10)


@pytest.mark.parametrize(
    ("arches", "capability", "refusal"),
    [
        (("sm_75", "sm_80", "sm_90"), "75", None),
        (("sm_75", "sm_80", "sm_90"), "89", None),
        (("sm_80", "sm_90"), "120", None),
        (("sm_90a",), "90", None),
        (("sm_80", "sm_90"), "75", "8.0, this is a Tesla T4 of 7.5"),
        (("sm_75", "sm_80"), "61", "7.5, this is a Tesla T4 of 6.1"),
        (("sm_90a",), "80", "exactly 9.0, this is a Tesla T4 of 8.0"),
        (("sm_90a",), "120", "exactly 9.0, this is a Tesla T4 of 12.0"),
    ],
)
def test_capability(arches, capability, refusal):
    if refusal is None:
        assert check_capability(MMA, arches, capability, "Tesla T4") is None
        return
    with pytest.raises(UserError) as caught:
        check_capability(MMA, arches, capability, "Tesla T4")
    assert str(caught.value) == f"matmul 09_mma_sync needs compute capability {refusal}"


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that writes down what it is asked for; `capability` and `name` are its GPUs'."""
    fake = types.SimpleNamespace(capability="90", name="NVIDIA H100", modules=[])

    fake.current, fake.launches = 0, []

    class Device:
        def __init__(self, number):
            self.compute_capability = fake.capability

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    class Kernel:
        max_dynamic_shared_size_bytes = 48 * 1024

        def __call__(self, grid, block, args, *, shared_mem=0):
            assert shared_mem <= self.max_dynamic_shared_size_bytes
            fake.launches.append((grid, block, args, shared_mem))

    class RawModule:
        def __init__(self, **options):
            fake.modules.append(options)
            if "path" in options:
                with open(options["path"], "rb") as file:
                    options["cubin"] = file.read()

        def get_function(self, name):
            return Kernel()

    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda n: {"name": fake.name.encode()}, getDevice=lambda: fake.current
    )
    fake.cuda = types.SimpleNamespace(Device=Device, runtime=runtime)
    fake.RawModule = RawModule
    monkeypatch.setitem(sys.modules, "cupy", fake)
    ladder._load_cupy.cache_clear()
    yield fake
    ladder._load_cupy.cache_clear()


def test_on_a_gpu_cupy_compiles(cupy):
    rung = LADDERS["softmax"][1]
    kernel = load(rung, dtype="float64", macros={"N": 4}, carrier=FakeArray()).kernel("f")
    (options,) = cupy.modules
    assert options["code"] == rung.path.read_text()
    assert set(options["options"]) == {"-std=c++17", "-DREAL=double", "-DN=4"}
    kernel((3,), (32, 2), ("x",))
    kernel((3, 1), (64,), ("x",), shared_mem=100_000)  # more than 48 KiB is asked for first
    kernel((3, 1), (64,), ("x",), shared_mem=50_000)
    assert cupy.launches == [
        ((3, 1, 1), (32, 2, 1), ("x",), 0),
        ((3, 1, 1), (64, 1, 1), ("x",), 100_000),
        ((3, 1, 1), (64, 1, 1), ("x",), 50_000),
    ]


def test_a_missing_header_is_named(cupy, monkeypatch):
    """NVRTC comes without headers; what it says then was read off NVRTC 13.0."""
    message = 'k.cu(1): catastrophic error: could not open source file "mma.h"\n  #include <mma.h>'

    def get_function(module, name):
        raise RuntimeError(message)

    monkeypatch.setattr(cupy.RawModule, "get_function", get_function)
    rung = LADDERS.find("matmul", 8)
    with pytest.raises(UserError, match=r"08_wmma needs .*<mma\.h> is not here: pip install .*crt"):
        load(rung, dtype="float16", carrier=FakeArray())
    message = "k.cu(1): error: expected a ;"
    with pytest.raises(RuntimeError, match="expected a ;"):
        load(rung, dtype="float16", carrier=FakeArray())


def test_each_device_gets_its_own_module(cupy):
    rung = LADDERS["softmax"][1]
    first = load(rung, carrier=FakeArray(device=0))
    assert load(rung, carrier=FakeArray(device=0)) is first
    with pytest.raises(ValueError, match=r"on GPU 1, but the current one is GPU 0: .*Device\(1\)"):
        load(rung, carrier=FakeArray(device=1))
    cupy.current = 1
    assert load(rung, carrier=FakeArray(device=1)) is not first
    assert len(cupy.modules) == 2


def test_hopper_alone_is_compiled_by_nvcc(cupy):
    load(WGMMA, dtype="bfloat16", carrier=FakeArray())
    (options,) = cupy.modules
    assert options["cubin"].startswith(b"\x7fELF")
    assert "code" not in options


def test_too_old_a_gpu_is_refused_before_compiling(cupy):
    cupy.capability, cupy.name = "75", "Tesla T4"
    with pytest.raises(
        UserError, match=r"08_wmma needs compute capability 8\.0, this is a Tesla T4"
    ):
        load(LADDERS.find("matmul", 8), dtype="bfloat16", carrier=FakeArray())
    load(LADDERS.find("matmul", 8), dtype="float16", carrier=FakeArray())
    with pytest.raises(UserError, match=r"10_wgmma_tma needs .* exactly 9\.0"):
        load(WGMMA, carrier=FakeArray())
    assert len(cupy.modules) == 1


def test_check_grid():
    assert check_grid((2,), (3,)) == ((2, 1, 1), (3, 1, 1))
    assert check_grid((2**31 - 1, 65535, 65535), (32, 8, 4))[1] == (32, 8, 4)
    for grid, axis in (((2**31,), "x"), ((1, 65536), "y"), ((1, 1, 65536), "z"), ((0,), "x")):
        with pytest.raises(ValueError, match=f"blocks on axis {axis}, allowed are 1 to "):
            check_grid(grid, (1,))
    for block in ((1025,), (32, 33), (0,)):
        with pytest.raises(ValueError, match="threads, allowed are 1 to 1024"):
            check_grid((1,), block)


def test_check_array():
    x = np.zeros((2, 3), np.float32)
    check_array("x", x, dtype="float32", shape=(2, None), like=x)
    check_array("x", x.T, contiguous=False)
    check_array("x", FakeArray(), dtype=np.float32, shape=(2, 3), like=FakeArray())
    for error, options in {
        "x must be float64, got float32": {"dtype": "float64"},
        "x must be float16 or float64, got float32": {"dtype": ("float16", "float64")},
        "x must have shape (2, 4), got (2, 3)": {"shape": (2, 4)},
        "x must have shape (any,), got (2, 3)": {"shape": (None,)},
        "x must be an array on GPU 0 (CuPy), got one on the CPU (NumPy)": {"like": FakeArray()},
    }.items():
        with pytest.raises(ValueError, match=re.escape(error)):
            check_array("x", x, **options)
    with pytest.raises(ValueError, match=re.escape("C-contiguous, got strides (4, 12) bytes")):
        check_array("x", x.T)
    with pytest.raises(ValueError, match=re.escape("C-contiguous, got strides (4, 8) bytes")):
        check_array("x", FakeArray(contiguous=False))
    with pytest.raises(ValueError, match="x must be a CuPy or NumPy array, got list"):
        check_array("x", [1.0])
    with pytest.raises(ValueError, match=re.escape("on GPU 1 (CuPy), got one on GPU 0 (CuPy)")):
        check_array("x", FakeArray(), like=FakeArray(device=1))

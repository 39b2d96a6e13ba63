"""Launches that are refused, and kernels that crash: one clear line, and Python lives on."""

import concurrent.futures
import contextlib
import ctypes
import signal
import threading

import numpy as np
import pytest

from minillm.errors import UserError
from minillm_kernels.emulator import EmulatorError, RawModule, checking

CODE = r"""
#include <cuda_fp16.h>

struct Sizes { int rows, columns; };

extern "C" __global__ void take(const float* x, double* y, int n, float scale,
                                unsigned long long many, bool flag, Sizes sizes,
                                const float4* fours, const __half* halves) {
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        y[0] = (double)x[0] + n + scale + many + flag + sizes.rows * 10 + sizes.columns;
        y[0] += fours[0].w + (float)halves[0];
    }
}
extern "C" __global__ void dynamic(int* y) {
    extern __shared__ int room[];
    room[threadIdx.x] = 1;
    y[threadIdx.x] = room[threadIdx.x];
}
extern "C" __global__ void much(int* y) {
    __shared__ char large[49153];
    large[threadIdx.x] = y[0];
    __syncthreads();
    y[0] = large[y[1]];
}
extern "C" __global__ void divides(int* y, int by) {
    y[threadIdx.x] = 5 / by;
}
extern "C" __global__ void wild(float* y, long long far) {
    if (threadIdx.x == 3)
        y[far] = 1;
}
__device__ __noinline__ int deep(int n) {
    volatile int room[512];
    room[n & 511] = n;
    return n < 0 ? 0 : deep(n + 1) + room[n & 511];
}
extern "C" __global__ void recurses(int* y) {
    y[0] = deep(1);
}
extern "C" __global__ void traps(int* y) {
    if (threadIdx.x == 2)
        __trap();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void asserts(int* y) {
    assert(y[0] == 1);
    y[0] = 2;
}
extern "C" __global__ void misaligned(const float* x, float* y) {
    *(float4*)y = *(const float4*)(x + 1);
}
"""
LINES = CODE.splitlines()


def line_of(text):
    return next(i for i, line in enumerate(LINES, 1) if text in line)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


class Sizes(ctypes.Structure):
    _fields_ = (("rows", ctypes.c_int), ("columns", ctypes.c_int))


def arguments():
    """What `take` takes."""
    return {
        "x": np.ones(4, np.float32),
        "y": np.zeros(4, np.float64),
        "n": np.int32(2),
        "scale": np.float32(0.5),
        "many": np.uint64(2**40),
        "flag": True,
        "sizes": Sizes(3, 4),
        "fours": np.arange(4, dtype=np.float32),
        "halves": np.full(1, 0.25, np.float16),
    }


def launch(module, **changes):
    args = {**arguments(), **changes}
    module.get_function("take")((1,), (1,), tuple(args.values()))
    return args["y"][0]


def test_every_kind_of_argument_arrives(module):
    assert launch(module) == 1 + 2 + 0.5 + 2**40 + 1 + 34 + 3 + 0.25
    assert launch(module, n=5, many=7, flag=np.bool_(False)) == 1 + 5 + 0.5 + 7 + 34 + 3 + 0.25
    with checking() as report:
        assert launch(module) == 1 + 2 + 0.5 + 2**40 + 1 + 34 + 3 + 0.25
    report.raise_for_findings()


class OnGpu:
    """What CuPy's arrays look like from outside."""

    __cuda_array_interface__ = {"shape": (4,)}  # noqa: RUF012 - as CuPy has it


read_only = np.zeros(4)
read_only.flags.writeable = False


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"x": np.ones(4, np.int32)},
            r"argument 1 \(const float\*\) points to float, got .* int32",
        ),
        ({"x": np.ones(4)}, "points to float, got an array of float64"),
        ({"x": np.ones((4, 4), np.float32).T[:, :2]}, "must be C-contiguous, or rows cut out"),
        ({"x": np.ones(4, np.float32)[::-1]}, "must be C-contiguous"),
        ({"x": np.broadcast_to(np.float32(1), (4,))}, "must be C-contiguous"),
        ({"x": [1.0]}, "must be a NumPy array, got list"),
        ({"x": 1.0}, "must be a NumPy array, got float"),
        ({"x": OnGpu()}, "is an array on a GPU .* the emulator takes NumPy arrays"),
        (
            {"y": read_only},
            r"argument 2 \(double\*\) may be written by the kernel, got a read-only",
        ),
        ({"n": 2.0}, r"argument 3 \(int\) takes int32, got float; pass np.int32"),
        ({"n": np.int64(2)}, "takes int32, got np.int64"),
        ({"n": 2**31}, "takes int32, which cannot hold 2147483648"),
        ({"n": np.ones(4, np.int32)}, "is no pointer, got an array"),
        ({"scale": 0.5}, "takes float32, got a Python float, which CuPy passes as double"),
        ({"scale": np.float64(0.5)}, "takes float32, got np.float64"),
        ({"scale": 1}, "takes float32, got int"),
        ({"many": -1}, "takes uint64, which cannot hold -1"),
        ({"many": np.int32(1)}, "takes uint64, got np.int32"),
        ({"sizes": np.int32(1)}, "takes a value of 8 bytes"),
        ({"fours": np.ones(4)}, "points to float4, got an array of float64"),
        ({"halves": np.ones(4, np.float32)}, "points to __half, got an array of float32"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(module, change, says):
    with pytest.raises(EmulatorError, match=says) as caught:
        launch(module, **change)
    assert str(caught.value).startswith("take: argument ")
    assert isinstance(caught.value, UserError)


def test_the_number_of_arguments(module):
    with pytest.raises(EmulatorError, match=r"divides takes 2 arguments \(int\*, int\), got 1"):
        module.get_function("divides")((1,), (1,), (np.zeros(1, np.int32),))
    with pytest.raises(EmulatorError, match="must be a tuple, got ndarray"):
        module.get_function("divides")((1,), (1,), np.zeros(1, np.int32))


@pytest.mark.parametrize(
    ("grid", "block", "shared", "says"),
    [
        ((1,), (1025,), 0, r"block.x must be 1 to 1024, got 1025"),
        ((1,), (32, 33), 0, "at most 1024 threads, got 1056"),
        ((1,), (1, 1, 65), 0, "block.z must be 1 to 64, got 65"),
        ((1, 65536), (1,), 0, "grid.y must be 1 to 65535, got 65536"),
        ((2**31,), (1,), 0, "grid.x must be 1 to 2147483647"),
        ((0,), (1,), 0, "grid.x must be 1"),
        ((1, 1, 1, 1), (1,), 0, "1 to 3 numbers"),
        ((1,), (1,), 227 * 1024 + 1, "at most 232448 bytes of shared memory"),
        ((1,), (1,), 48 * 1024 + 1, "kernel.max_dynamic_shared_size_bytes = 49153"),
        ((1,), (1,), -1, "shared_mem=-1"),
    ],
)
def test_limits_of_a_launch(module, grid, block, shared, says):
    with pytest.raises(EmulatorError, match=says):
        module.get_function("dynamic")(grid, block, (np.zeros(1, np.int32),), shared_mem=shared)


def test_more_dynamic_shared_memory_once_it_is_allowed(module):
    kernel, y = RawModule(code=CODE).get_function("dynamic"), np.zeros(1, np.int32)
    kernel.max_dynamic_shared_size_bytes = 227 * 1024
    kernel((1,), (1,), (y,), shared_mem=227 * 1024)
    assert y[0] == 1


def test_too_much_static_shared_memory(module):
    with pytest.raises(EmulatorError, match="declares 49153 bytes of __shared__ variables"):
        module.get_function("much")((1,), (1,), (np.zeros(2, np.int32),))


def crash(module, name, *args, threads=4):
    with pytest.raises(EmulatorError) as caught:
        module.get_function(name)((2,), (threads,), args)
    y = np.zeros(2, np.int32)  # everything works as before
    module.get_function("divides")((1,), (2,), (y, np.int32(5)))
    assert list(y) == [1, 1]
    return caught.value


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("divides", (0,), "an integer is divided by zero"),
        ("recurses", (), "the thread's stack overflows"),
        ("traps", (), "__trap() was called [traps, thread (2,0,0) of block"),
        ("asserts", (), "an assert failed"),
    ],
)
def test_a_kernel_that_fails_is_told_by_line_and_thread(module, checked, name, args, says):
    with checking() if checked else contextlib.nullcontext():
        error = crash(module, name, np.zeros(4, np.int32), *args)
    assert says in str(error)
    if name == "recurses":  # somewhere in the function
        assert line_of("int deep(int n)") <= error.line <= line_of("deep(n + 1)")
    else:
        where = {"divides": "5 / by", "traps": "__trap()", "asserts": "assert("}
        assert error.line == line_of(where[name])


def test_a_misaligned_access_is_told_by_line(module):
    # g++'s plain code may crash there or not, as it likes; checked code always tells
    x, y = np.zeros(8, np.float32), np.zeros(4, np.float32)
    with checking() as report:
        module.get_function("misaligned")((1,), (1,), (x, y))
    (found,) = report.findings
    assert (found.kind, found.line) == ("misaligned", line_of("(x + 1)"))
    assert "reads 16 bytes at an address that is 4 beyond a multiple of 16" in found.message


def test_a_pointer_astray_is_told_by_line_and_thread(module):
    error = crash(module, "wild", np.zeros(4, np.float32), np.int64(2**45))
    assert error.line == line_of("y[far] = 1")
    assert "where there is no memory" in str(error)
    assert "thread (3,0,0)" in str(error)


def test_signal_handlers_are_ours_only_while_a_launch_runs(module):
    before = signal.getsignal(signal.SIGFPE)
    crash(module, "divides", np.zeros(4, np.int32), 0)
    assert signal.getsignal(signal.SIGFPE) == before


ASTRAY = r"""
#include <cassert>
__device__ int first[4];
extern "C" __global__ void overruns(int* y) {
    first[threadIdx.x] = -1;                                  // 4 numbers, 64 threads
}
extern "C" __global__ void beyond(int* y) { y[(int)threadIdx.x - 1] = 1, y[threadIdx.x + 1] = 2; }
extern "C" __global__ void fine(int* y) { y[threadIdx.x] = 1; }
extern "C" __global__ void large(int* y, int n) {
    int local[60000];                                         // 240 KB
    local[n] = y[0], local[n / 2] = 3;
    y[threadIdx.x] = local[n] + local[n / 2];
}
extern "C" __global__ void prints(int* y) { printf("%s\n", (char*)(y[0] + 8l)); }  // no text
extern "C" __global__ void endless(int* y) {
    while (((volatile int*)y)[0] == 0) {}
}
extern "C" __global__ void endless_talk(int* y) {
    while (((volatile int*)y)[0] == 0) printf(".");
}
"""


@pytest.fixture(scope="module")
def astray():
    return RawModule(code=ASTRAY)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(
    ("name", "args", "text", "says"),
    [("large", (np.int32(9),), "int local", "stack overflows"), ("prints", (), "no text", "0x8")],
)
def test_faults_in_large_frames_and_in_printf(astray, checked, name, args, text, says):
    line = next(i for i, row in enumerate(ASTRAY.splitlines(), 1) if text in row)
    with checking() if checked else contextlib.nullcontext():
        error = crash_of(astray, name, np.zeros(4, np.int32), *args)
    assert (error.kind, says in str(error)) == ("fault", True), str(error)
    assert abs(error.line - line) <= 1


def crash_of(module, name, *args):
    with pytest.raises(EmulatorError) as caught:
        module.get_function(name)((1,), (4,), args)
    return caught.value


def test_what_overruns_a_device_variable_does_not_stop_the_next_kernel(astray):
    y = np.zeros(64, np.int32)
    with checking() as report:
        astray.get_function("overruns")((1,), (64,), (y,))
    assert {f.kind for f in report.findings} == {"out of bounds"}
    astray.get_function("overruns")((1,), (8,), (y,))
    astray.get_function("fine")((1,), (64,), (y,))
    assert y.all()


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("name", ["endless", "endless_talk"])
def test_ctrl_c_leaves_an_endless_loop(astray, capfd, name, checked):
    kernel = astray.get_function(name)
    for _ in range(2):
        timer = threading.Timer(0.15, signal.raise_signal, (signal.SIGINT,))
        kernel.module.library(checked, "native")  # compiled before the timer starts
        with checking() if checked else contextlib.nullcontext():
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                kernel((2,), (64,), (np.zeros(4, np.int32),))
    kernel((1,), (4,), (np.ones(4, np.int32),))


def test_an_unchecked_overrun_hurts_nobody(astray):
    memory = np.zeros(200, np.int32)
    with pytest.raises(
        EmulatorError, match=r"beyond: elements outside argument 1 \(int\*, .*\(64,\)"
    ):
        astray.get_function("beyond")((1,), (64,), (memory[64:128],))
    assert memory[64:128].all()
    assert not memory[:64].any()
    assert not memory[128:].any()


def test_threads_of_python_check_each_their_own(astray):
    def check(i):
        with checking(seed=i) as report:
            astray.get_function("fine")((2 + i % 2,), (64,), (np.zeros(64, np.int32),))
        return len(report.findings), report.launches, report.lines[0].requests

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check, range(8))) == [(0, 1, 4 + i % 2 * 2) for i in range(8)]


@pytest.mark.parametrize("grid", [(1.5,), "a", None, (None,), ("1",)])
def test_a_grid_of_no_whole_numbers(astray, grid):
    with pytest.raises(EmulatorError, match=r"grid must be 1 to 3 whole numbers, got"):
        astray.get_function("fine")(grid, (64,), (np.zeros(64, np.int32),))


@pytest.mark.parametrize("shared", [1.5, "64", None])
def test_shared_memory_of_no_whole_number(astray, shared):
    with pytest.raises(EmulatorError, match="shared_mem must be a number of bytes"):
        astray.get_function("fine")((1,), (64,), (np.zeros(64, np.int32),), shared_mem=shared)

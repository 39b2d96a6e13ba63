"""Barriers and warp operations that not all come to: an error, which says who stands where."""

import contextlib

import numpy as np
import pytest

from minillm_kernels.emulator import EmulatorError, RawModule, checking, emulator_settings

CODE = r"""
extern "C" __global__ void leaves(int* y, int n) {
    if (threadIdx.x >= n) return;
    __syncthreads();                                          // after some left
    y[threadIdx.x] = 1;
}
extern "C" __global__ void two_places(int* y, int n) {
    if (threadIdx.x < n) {
        y[threadIdx.x] = 1;
        __syncthreads();                                      // one place
    } else {
        __syncthreads();                                      // the other
    }
}
extern "C" __global__ void uneven_loop(int* y) {
    for (int i = 0; i <= threadIdx.x / 32; ++i)
        __syncthreads();                                      // in a loop
    y[threadIdx.x] = 1;
}
extern "C" __global__ void counted(int* y, int n) {
    if (threadIdx.x < n) y[threadIdx.x] = __syncthreads_count(1);   // counting
}
extern "C" __global__ void shuffle_left(float* y, int n) {
    if (threadIdx.x >= n) return;
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);   // without some
}
extern "C" __global__ void shuffle_and_barrier(float* y) {
    if (threadIdx.x % 32 < 20)
        y[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 1);   // twenty lanes
    __syncthreads();                                          // the twelve others
}
extern "C" __global__ void not_in_mask(float* y) {
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);       // not named
}
extern "C" __global__ void two_masks(unsigned* y) {
    y[threadIdx.x] = threadIdx.x < 16 ? __ballot_sync(0xffffffffu, 1)     // mask of all
                                      : __ballot_sync(0xffff0000u, 1);    // mask of half
}
extern "C" __global__ void odd_width(float* y) {
    y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0, 12);   // twelve wide
}
extern "C" __global__ void parts(unsigned* y, float* z) {
    int half = threadIdx.x / 16 % 2;
    unsigned mask = half ? 0xffff0000u : 0x0000ffffu;
    if (half) y[threadIdx.x] = __ballot_sync(mask, 1);
    else y[threadIdx.x] = __ballot_sync(mask, threadIdx.x % 2);
    z[threadIdx.x] = __shfl_down_sync(mask, (float)threadIdx.x, 1, 16);
}
extern "C" __global__ void unnamed_source(float* y) {
    if (threadIdx.x < 16)
        y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, (float)threadIdx.x, 16);  // reads
}
"""
LINES = CODE.splitlines()


def line_of(text):
    return next(i for i, line in enumerate(LINES, 1) if text in line)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


def error_of(module, name, threads, args, *, seed=0, checked=False, fibers="native"):
    with emulator_settings(seed=seed, fibers=fibers), contextlib.ExitStack() as stack:
        report = stack.enter_context(checking(seed=seed)) if checked else None
        with pytest.raises(EmulatorError) as caught:
            module.get_function(name)((2,), (threads,), args)
    if checked:  # it stands in the report, too
        found = report.findings[-1]
        assert (found.kind, found.line) == (caught.value.kind, caught.value.line)
        assert str(caught.value).endswith(found.message)
    return caught.value


ints = np.zeros(128, np.int32)
words = np.zeros(128, np.uint32)
floats = np.zeros(128, np.float32)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "threads", "args", "line", "says"),
    [
        (
            "leaves",
            100,
            (ints, np.int32(70)),
            "// after some left",
            ["is reached by 70 of the block's 100 threads", "30 threads have returned"],
        ),
        (
            "two_places",
            64,
            (ints, np.int32(1)),
            "// one place",
            [
                "is reached by 1 of the block's 64 threads",
                f"63 threads wait in __syncthreads() at kernel.cu:{line_of('// the other')}",
            ],
        ),
        (
            "uneven_loop",
            96,
            (ints,),
            "// in a loop",
            ["is reached by 64 of the block's 96 threads", "32 threads have returned"],
        ),
        (
            "counted",
            33,
            (ints, np.int32(32)),
            "// counting",
            ["is reached by 32 of the block's 33 threads", "1 thread has returned"],
        ),
    ],
)
def test_a_barrier_that_not_all_reach(module, checked, seed, name, threads, args, line, says):
    error = error_of(module, name, threads, args, seed=seed, checked=checked)
    assert (error.kind, error.file, error.line) == (
        "barrier divergence",
        "kernel.cu",
        line_of(line),
    )
    assert f"kernel.cu:{line_of(line)}: barrier divergence: __syncthreads() at line" in str(error)
    for part in says:
        assert part in str(error)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "threads", "args", "line", "says"),
    [
        (
            "shuffle_left",
            32,
            (floats, np.int32(29)),
            "// without some",
            ["mask 0xffffffff waits for lanes that do not come: lane 29 has returned (3 lanes"],
        ),
        (
            "not_in_mask",
            32,
            (floats,),
            "// not named",
            ["__shfl_sync is called by lane", "which its mask does not name"],
        ),
        (
            "two_masks",
            32,
            (words,),
            "// mask of all",
            ["with mask 0xffffffff waits for lanes that do not come: lane 16"],
        ),
        ("odd_width", 32, (floats,), "// twelve wide", ["has width 12; allowed are 1, 2, 4, 8"]),
    ],
)
def test_a_warp_operation_that_not_all_come_to(
    module, checked, seed, name, threads, args, line, says
):
    error = error_of(module, name, threads, args, seed=seed, checked=checked)
    assert (error.kind, error.line) == ("warp", line_of(line)), str(error)
    for part in says:
        assert part in str(error)


def test_lanes_at_a_barrier_while_others_want_them(module):
    error = error_of(module, "shuffle_and_barrier", 64, (floats,))
    # both are wrong; the barrier is told first, and who waits in the shuffle with it
    assert error.line == line_of("// the twelve others")
    assert "is reached by 24 of the block's 64 threads" in str(error)
    assert f"40 threads wait in __shfl_down_sync() at kernel.cu:{line_of('// twenty')}" in str(
        error
    )


def test_ucontext_tells_the_same(module):
    for name, threads, args in (
        ("leaves", 100, (ints, np.int32(70))),
        ("shuffle_left", 32, (floats, np.int32(29))),
    ):
        native = error_of(module, name, threads, args, seed=5)
        assert str(error_of(module, name, threads, args, seed=5, fibers="ucontext")) == str(native)


@pytest.mark.parametrize("threads", [32, 70])
def test_parts_of_a_warp_work_apart(module, threads):
    y, z = np.zeros(threads, np.uint32), np.zeros(threads, np.float32)
    module.get_function("parts")((1,), (threads,), (y, z))
    t = np.arange(threads)
    last = threads // 32 * 32  # the last warp's missing lanes vote for nothing
    odd = [0xAAAA if i < last else sum(1 << j for j in range(threads - last) if j % 2) for i in t]
    np.testing.assert_array_equal(y, np.where(t // 16 % 2, 0xFFFF0000, odd))
    inside = t % 16 < 15
    ok = inside & (t < threads - 1)
    np.testing.assert_array_equal(z[ok], t[ok] + 1)
    np.testing.assert_array_equal(z[~inside], t[~inside])


def test_a_lane_that_the_mask_does_not_name_is_no_source(module):
    with checking() as report:
        module.get_function("unnamed_source")((1,), (32,), (floats,))
    (found,) = report.findings
    assert (found.kind, found.line, found.count) == ("undefined shuffle", line_of("// reads"), 16)
    assert "which the mask does not name" in found.message


def test_after_an_error_the_next_launch_is_right(module):
    y = np.zeros(64, np.int32)
    error_of(module, "leaves", 64, (y, np.int32(3)))
    module.get_function("leaves")((2,), (64,), (y, np.int32(64)))
    assert (y == 1).all()
